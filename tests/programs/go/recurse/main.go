// SPDX-License-Identifier: BSD-2-Clause

// recurse calls itself: recurse [-n ROUNDS]
//
//	main.recurse   7 frames, each sleeps 1 ms before it calls the next; its ns is the sum over all frames, measured
//	               inside of them; ROUNDS times, each on a goroutine of its own, all at once
//	main.deep      201 frames on a fresh stack, which grows under them; ROUNDS times; its ns is that of the outermost
package main

import (
	"flag"
	"sync"
	"time"

	"targets/truth"
)

const depth = 200

var recurseCount = truth.Of("main.recurse")

//go:noinline
func recurse(left int) int {
	start := recurseCount.Enter()
	time.Sleep(time.Millisecond)
	result := 0
	if left > 0 {
		result = 1 + recurse(left-1)
	}
	recurseCount.Leave(start)
	return result
}

//go:noinline
func deep(left int) int {
	var room [64]byte
	room[left%64] = 1
	if left == 0 {
		return 0
	}
	return deep(left-1) + int(room[left%64])
}

func main() {
	rounds := flag.Int("n", 23, "rounds")
	flag.Parse()
	truth.Ready("recurse")

	var wait sync.WaitGroup
	deepCount := truth.Of("main.deep")
	for i := 0; i < *rounds; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			recurse(6)
		}()
	}
	wait.Wait()
	for i := 0; i < *rounds; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			start := deepCount.Enter()
			deep(depth)
			deepCount.Leave(start)
			deepCount.Add(depth)
		}()
		wait.Wait()
	}
	truth.Print("recurse", nil)
}
