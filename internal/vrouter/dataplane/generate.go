package dataplane

//go:generate go run ./gendrops bpf/drop_reasons.h drop_reasons.go
//go:generate ../../../bin/tools/bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -go-package dataplane -tags linux -output-stem bpf -type addr -type node -type flow_key -type flow -type flow_event -type flow_count -type limit -type vif -type next_hop -type route -type ecmp -type receiver_mac -type ecmp_member_key -type foreign -type foreign_addr -type port_addr_key -type bgp_service -type bgp_service_key -type host_route_key -type route_key -type counters -type drop_key -type drop_count -type port_policy -type identity -type bridge -type bridge_remote -type bridge_ports -type bridge_member -type mac_key bpf bpf/vrouter.c -- -mcpu=v3 -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu
