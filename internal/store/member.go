package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"

	ctls "github.com/contrail-mesos/contrail/internal/tls"
)

// MemberConfig makes the store one of several controllers'. The first begins
// alone, with what it has; the others join it.
type MemberConfig struct {
	// Name of the controller, unique among them.
	Name string
	// Peers is the host:port on which the other members reach this one.
	Peers string
	// Clients is the host:port on which the other controllers' processes do.
	Clients string
	// Join are host:ports of others' Clients; used only while there is no data.
	Join []string
	// Credentials of the role controller.
	Credentials *ctls.Credentials
}

// joinPause is the pause between attempts to join.
const joinPause = 500 * time.Millisecond

// Validate says what is missing or wrong.
func (m *MemberConfig) Validate() error {
	if m.Credentials == nil {
		return errors.New("several controllers need certificates; see --tls-dir")
	}
	if id, err := m.Credentials.Identity(); err != nil || id.Role != ctls.RoleController {
		return fmt.Errorf("certificate is for %s, want %s: %w", id, ctls.RoleController, err)
	}
	for _, address := range []string{m.Peers, m.Clients} {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("store address %q: want host:port", address)
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			return fmt.Errorf("store address %q: the other controllers must be able to reach it; give this machine's address", address)
		}
	}
	if m.Name == "" || strings.ContainsAny(m.Name, "=,") {
		return fmt.Errorf("controller name %q: want a name without = and comma", m.Name)
	}
	return nil
}

// configure fills in what a member of several has.
func (m *MemberConfig) configure(ctx context.Context, log *slog.Logger, cfg *embed.Config) error {
	if err := m.Validate(); err != nil {
		return err
	}
	cfg.Name = m.Name
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "https", Host: m.Peers}}
	cfg.AdvertiseClientUrls = []url.URL{{Scheme: "https", Host: m.Clients}}
	peers, err := listenURL(ctx, m.Peers)
	if err != nil {
		return err
	}
	clients, err := listenURL(ctx, m.Clients)
	if err != nil {
		return err
	}
	cfg.ListenPeerUrls = []url.URL{peers}
	cfg.ListenClientUrls = append(cfg.ListenClientUrls, clients)
	cfg.PeerTLSInfo, cfg.ClientTLSInfo = m.tlsInfo(), m.tlsInfo()
	cfg.TlsMinVersion = "TLS1.3"
	cfg.InitialCluster = m.Name + "=" + cfg.AdvertisePeerUrls[0].String()
	if hasData(cfg.Dir) || len(m.Join) == 0 {
		return nil // the data know the members; or this is the first
	}
	cfg.ClusterState = embed.ClusterStateFlagExisting
	cfg.InitialCluster, err = m.join(ctx, log, cfg.AdvertisePeerUrls[0].String())
	return err
}

func hasData(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "member", "wal"))
	return err == nil
}

// listenURL is a URL to listen on: etcd wants an address there.
func listenURL(ctx context.Context, address string) (url.URL, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return url.URL{}, err
	}
	if net.ParseIP(host) == nil {
		found, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			return url.URL{}, fmt.Errorf("store address %s: %w", address, err)
		}
		host = found[0]
	}
	return url.URL{Scheme: "https", Host: net.JoinHostPort(host, port)}, nil
}

// tlsInfo is mutual TLS in etcd's terms: both sides are controllers. etcd reads
// the files at each handshake, so renewed certificates are taken.
func (m *MemberConfig) tlsInfo() transport.TLSInfo {
	ca, cert, key := m.Credentials.Files()
	return transport.TLSInfo{
		CertFile: cert, KeyFile: key, TrustedCAFile: ca, ClientCertAuth: true,
		ServerName: ctls.DNSName(ctls.RoleController), AllowedCNs: []string{ctls.RoleController},
		// Certificates name roles, not addresses.
		SkipClientSANVerify: true,
	}
}

func (m *MemberConfig) client(log *slog.Logger, endpoints []string) (*clientv3.Client, error) {
	return clientv3.New(Config{Endpoints: endpoints, TLS: m.Credentials.Client("", ctls.RoleController)}.etcd(log))
}

// join makes this one a learner of the others' cluster and returns the members.
func (m *MemberConfig) join(ctx context.Context, log *slog.Logger, peer string) (string, error) {
	endpoints := make([]string, len(m.Join))
	for i, address := range m.Join {
		endpoints[i] = "https://" + address
	}
	client, err := m.client(log, endpoints)
	if err != nil {
		return "", fmt.Errorf("join %v: %w", m.Join, err)
	}
	defer client.Close()
	for waiting := false; ; {
		members, err := m.add(ctx, client, peer)
		if err == nil {
			return m.initialCluster(members, peer), nil
		}
		var refused *joinError
		if errors.As(err, &refused) || ctx.Err() != nil {
			return "", fmt.Errorf("join %v: %w", m.Join, err)
		}
		if !waiting {
			log.Warn("cannot join yet; trying again", "join", m.Join, "error", err)
			waiting = true
		}
		if err := wait(ctx, joinPause); err != nil {
			return "", err
		}
	}
}

// joinError is one that trying again does not mend.
type joinError struct{ text string }

func (e *joinError) Error() string { return e.text }

// add adds the member unless an earlier attempt did.
func (m *MemberConfig) add(ctx context.Context, client *clientv3.Client, peer string) ([]*etcdserverpb.Member, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := client.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	for _, have := range list.Members {
		if have.Name == m.Name || have.Name != "" && slices.Contains(have.PeerURLs, peer) {
			return nil, &joinError{fmt.Sprintf("controller %s with %v is a member already, and its data are not here; take it out first: contrail controller remove %s",
				have.Name, have.PeerURLs, have.Name)}
		}
		if slices.Contains(have.PeerURLs, peer) {
			return list.Members, nil
		}
	}
	added, err := client.MemberAddAsLearner(ctx, []string{peer})
	if err != nil {
		return nil, fmt.Errorf("add member: %w", err)
	}
	return added.Members, nil
}

func (m *MemberConfig) initialCluster(members []*etcdserverpb.Member, peer string) string {
	var list []string
	for _, have := range members {
		name := have.Name
		switch {
		case slices.Contains(have.PeerURLs, peer):
			name = m.Name
		case name == "":
			name = fmt.Sprintf("%x", have.ID)
		}
		for _, u := range have.PeerURLs {
			list = append(list, name+"="+u)
		}
	}
	return strings.Join(list, ",")
}

// settleIn corrects this member's address, and makes it a full one when it has
// caught up with the others.
func (m *MemberConfig) settleIn(ctx context.Context, log *slog.Logger, socket string, server *etcdserver.EtcdServer) {
	for said := false; ctx.Err() == nil; {
		err := m.settleOnce(ctx, log, socket, server)
		if err == nil {
			return
		}
		if !said && !errors.Is(err, rpctypes.ErrMemberLearnerNotReady) && ctx.Err() == nil {
			log.Warn("this controller is no full member of the store yet; trying again", "error", err)
			said = true
		}
		if wait(ctx, joinPause) != nil {
			return
		}
	}
}

func (m *MemberConfig) settleOnce(ctx context.Context, log *slog.Logger, socket string, server *etcdserver.EtcdServer) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	self, learner := uint64(server.MemberID()), server.IsLearner()
	endpoints := []string{"unix://" + socket}
	if learner {
		endpoints = nil // a learner does not answer this
		for _, other := range server.Cluster().Members() {
			if uint64(other.ID) != self {
				endpoints = append(endpoints, other.ClientURLs...)
			}
		}
	}
	if len(endpoints) == 0 {
		return errors.New("no other member has told its address")
	}
	client, err := m.client(log, endpoints)
	if err != nil {
		return err
	}
	defer client.Close()
	if learner {
		if _, err := client.MemberPromote(ctx, self); err != nil {
			return fmt.Errorf("become a full member: %w", err)
		}
		log.Info("this controller is a full member of the store now", "name", m.Name)
	}
	peer := "https://" + m.Peers
	if now := server.Cluster().Member(server.MemberID()); now != nil && !slices.Equal(now.PeerURLs, []string{peer}) {
		if _, err := client.MemberUpdate(ctx, self, []string{peer}); err != nil {
			return fmt.Errorf("tell the address %s to the others: %w", peer, err)
		}
	}
	return nil
}
