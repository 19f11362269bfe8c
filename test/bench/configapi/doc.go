// Package configapi measures the configuration API: the processes of `contrail
// controller` over their unix sockets, next to a bare etcd that is given the
// same keys.
//
//	writes   create-interface, attach: transactions of the API, and the bare
//	         client's with the keys and values that one of them writes; also
//	         spread over three controllers, next to bare clients of the same three
//	reads    one object, a list of 10,000 interfaces
//	fill     a network of 20,000 ports, and an etcd that fills alike
//	watch    from the sending of a write until a follower has it
//	start    with 100,000 objects until the API answers, and memory then; the
//	         peer starts and reads all keys
//
// Each round runs ours and the peer's one after the other on the same disk.
// FULL=1 adds 1,000,000 objects.
package configapi
