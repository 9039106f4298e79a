// SPDX-License-Identifier: BSD-2-Clause

// lookups looks a host name up in both ways that package net has: lookups [-n TIMES] NAME
//
// The truth has a key "failed": how many found nothing.
package main

import (
	"context"
	"flag"
	"net"

	"targets/truth"
)

func main() {
	rounds := flag.Int("n", 23, "lookups of each kind")
	flag.Parse()
	truth.Ready("lookups")

	failed := 0
	resolver := &net.Resolver{PreferGo: true}
	for i := 0; i < *rounds; i++ {
		if _, err := resolver.LookupIPAddr(context.Background(), flag.Arg(0)); err != nil {
			failed++
		}
		truth.Of("net.(*Resolver).lookupIPAddr").Add(1)
		if _, err := resolver.LookupHost(context.Background(), flag.Arg(0)); err != nil {
			failed++
		}
		truth.Of("net.(*Resolver).lookupHost").Add(1)
	}
	truth.Print("lookups", map[string]interface{}{"failed": failed})
}
