package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

const (
	echoPort = 7007
	// patience is how long a silent peer keeps its connection.
	patience = time.Minute
)

// serveAll answers on all addresses until ctx ends.
func serveAll(ctx context.Context, httpPort, echoPort int) error {
	web, err := net.Listen("tcp", ":"+strconv.Itoa(httpPort))
	if err != nil {
		return err
	}
	echo, err := net.Listen("tcp", ":"+strconv.Itoa(echoPort))
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", ":"+strconv.Itoa(echoPort))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(introduce), ReadHeaderTimeout: patience}
	ends := make(chan error, 3)
	go func() { ends <- server.Serve(web) }()
	go func() { ends <- echoStreams(echo) }()
	go func() { ends <- echoPackets(packets) }()
	fmt.Printf("answering HTTP on port %d, TCP and UDP echo on port %d\n", httpPort, echoPort)
	select {
	case <-ctx.Done():
		return errors.Join(server.Close(), echo.Close(), packets.Close())
	case err := <-ends:
		return err
	}
}

// introduce tells who answered.
func introduce(w http.ResponseWriter, r *http.Request) {
	host, _ := os.Hostname()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{
		"app": os.Getenv("MARATHON_APP_ID"), "task": os.Getenv("MESOS_TASK_ID"), "host": host, "you": r.RemoteAddr,
	})
}

func echoStreams(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			_, _ = io.Copy(conn, conn)
		}()
	}
}

func echoPackets(conn net.PacketConn) error {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		_, _ = conn.WriteTo(buf[:n], from) // a lost datagram is the asker's to ask again
	}
}
