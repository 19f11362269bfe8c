// Package reflect measures how fast routes of one BGP peer
// reach others through the speaker, and what that costs, next to FRR, BIRD and
// gobgpd with the same peers in the same run.
//
// The speaker and the others run as processes of their own, one after the
// other, in a namespace; sender and receivers are connections of the benchmark
// itself, with messages made before and counted by their length, so that they
// are not what is measured.
//
//	reflect100k     100,000 VPNv4 routes, a set of attributes for each 100,
//	                from one client to another
//	reflect100k-10  the same to 10 clients
//	reflect1m       1,000,000 routes, with FULL=1
//
// elapsed is from the first byte sent to the last route received; cpu is what
// the process used meanwhile; rss is the most memory it ever had.
package reflect
