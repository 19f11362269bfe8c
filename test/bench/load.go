package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"
)

// loadCommand makes this program a load generator, to run in a namespace:
//
//	load serve PORT                      one byte back for each byte
//	load rr|crr ADDRESS PORT DURATION    transactions on one connection, or one each
const loadCommand = "load"

type loadResult struct {
	Count   int     `json:"count"`
	Seconds float64 `json:"seconds"`
}

func load(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return loadServe(args[1])
	case len(args) == 4:
		duration, err := time.ParseDuration(args[3])
		if err != nil {
			return err
		}
		address := net.JoinHostPort(args[1], args[2])
		transact := map[string]func(string, time.Time) (int, error){"rr": requestResponse, "crr": connectRequestResponse}[args[0]]
		if transact == nil {
			return fmt.Errorf("no load is named %s", args[0])
		}
		began := time.Now()
		count, err := transact(address, began.Add(duration))
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(loadResult{count, time.Since(began).Seconds()})
	default:
		return errors.New("want serve PORT, or rr or crr ADDRESS PORT DURATION")
	}
}

func loadServe(port string) error {
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: number})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			buf := make([]byte, 1)
			for {
				if _, err := io.ReadFull(conn, buf); err != nil {
					return
				}
				if _, err := conn.Write(buf); err != nil {
					return
				}
			}
		}()
	}
}

func requestResponse(address string, until time.Time) (int, error) {
	conn, err := net.DialTimeout("tcp4", address, 5*time.Second)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	count := 0
	for buf := make([]byte, 1); time.Now().Before(until); count++ {
		if err := transaction(conn, buf); err != nil {
			return count, err
		}
	}
	return count, nil
}

// connectRequestResponse resets its connections, so that none lingers and the
// ports do not run out.
func connectRequestResponse(address string, until time.Time) (int, error) {
	count := 0
	for buf := make([]byte, 1); time.Now().Before(until); count++ {
		conn, err := net.DialTimeout("tcp4", address, 5*time.Second)
		if err != nil {
			return count, err
		}
		err = errors.Join(transaction(conn, buf), conn.(*net.TCPConn).SetLinger(0), conn.Close())
		if err != nil {
			return count, err
		}
	}
	return count, nil
}

func transaction(conn net.Conn, buf []byte) error {
	if _, err := conn.Write(buf); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, buf)
	return err
}
