// SPDX-License-Identifier: BSD-2-Clause

// failures makes errors of Go's library and hands each to main.show.
//
// The truth has a key "errors": for each its dynamic type and message, in order.
package main

import (
	"errors"
	"fmt"
	"io/ioutil"
	"net"
	"os"

	"targets/truth"
)

type told struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

var all []told

//go:noinline
func show(err error) error {
	return err
}

func tell(err error) {
	all = append(all, told{fmt.Sprintf("%T", err), show(err).Error()})
}

// A connection that the other side has reset.
func reset() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	go func() {
		other, err := listener.Accept()
		if err == nil {
			other.(*net.TCPConn).SetLinger(0)
			other.Close()
		}
	}()
	connection, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	defer connection.Close()
	_, err = ioutil.ReadAll(connection)
	return err
}

func main() {
	truth.Ready("failures")
	_, refused := net.Dial("tcp", "127.0.0.1:1")
	tell(refused)
	_, refused = net.Dial("tcp", "[::1]:1")
	tell(refused)
	tell(reset())
	_, missing := os.Open("/nope")
	tell(missing)
	wrapped := fmt.Errorf("wrapped: %w", missing)
	tell(wrapped)
	tell(join(errors.New("one"), wrapped))
	tell(join(errors.New("one")))
	truth.Of("main.show").Add(int64(len(all)))
	truth.Print("failures", map[string]interface{}{"errors": all})
}
