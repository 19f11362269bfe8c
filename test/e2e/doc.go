// Package e2e tests the whole of Contrail for Mesos from outside: a cluster
// that `contrail up` starts under a random name, from a network namespace of
// its own, so that nothing of the machine and no other cluster is touched.
//
//	curl, python3-marathon ──> Marathon ─> master ─> agent ─> plugin ─> ...
//	tcpdump, ip, bpftool, etcdctl, /proc, findmnt  ──> what really is there
//
// Only programs that are not of this project judge. All tests share one
// cluster, which the first that needs it starts; each leaves it as it was.
// Run it with `make test-net`, or
//
//	go test -tags net ./test/e2e -run TestNetWorkflow
//
// Where a run was killed, `contrail down --purge --name NAME` removes what it
// left; the name is in the first line of its output.
package e2e
