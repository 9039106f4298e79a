// SPDX-License-Identifier: BSD-2-Clause

// Asks the microservice for a product, again and again: client [-addr HOST:PORT] [-interval DURATION] [-n CALLS]
package main

import (
	"context"
	"flag"
	"log"
	"time"

	example "github.com/rpcxio/rpcx-examples"
	"github.com/smallnest/rpcx/client"
	"github.com/smallnest/rpcx/protocol"
)

var (
	addr     = flag.String("addr", "localhost:8972", "server address")
	interval = flag.Duration("interval", time.Second, "time between calls")
	calls    = flag.Int("n", 0, "stop after so many calls (0: go on for ever)")
)

func main() {
	flag.Parse()

	d, _ := client.NewPeer2PeerDiscovery("tcp@"+*addr, "")
	opt := client.DefaultOption
	opt.SerializeType = protocol.JSON

	xclient := client.NewXClient("Arith", client.Failtry, client.RandomSelect, d, opt)
	defer xclient.Close()

	args := example.Args{
		A: 10,
		B: 20,
	}

	for n := 1; ; n++ {
		reply := &example.Reply{}
		err := xclient.Call(context.Background(), "Mul", args, reply)
		if err != nil {
			log.Fatalf("failed to call: %v", err)
		}
		log.Printf("%d * %d = %d", args.A, args.B, reply.C)
		if n == *calls {
			return
		}
		time.Sleep(*interval)
	}
}
