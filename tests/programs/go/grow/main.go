// SPDX-License-Identifier: BSD-2-Clause

// grow grows stacks while functions that may be traced are on them: grow [-n CALLS] [-d DURATION] [-workers W]
//
//	main.holds   is on the stack while it grows and moves; called once on each of CALLS fresh goroutines
//	main.grow    recursive, 40 frames of 512 bytes: what makes it grow; 41 calls for each of main.holds
//	main.fills   writes 5 * left to a reply in its caller's frame, which has moved by then; CALLS times, left = 40
//	main.huge    its own frame of 16 KB is more than a fresh stack has: it grows in its own prologue; CALLS times
//
// "moved": how many of the calls of main.holds saw their own frame at another address afterwards.
package main

import (
	"flag"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"targets/truth"
)

const depth = 40

var moved int64

//go:noinline
func grow(left int) int {
	var room [512]byte
	room[left] = 1
	if left == 0 {
		return 1
	}
	return grow(left-1) + int(room[left])
}

//go:noinline
func holds(left int) int {
	var local int
	before := uintptr(unsafe.Pointer(&local))
	sum := grow(left)
	if uintptr(unsafe.Pointer(&local)) != before {
		atomic.AddInt64(&moved, 1)
	}
	return sum + local
}

type reply struct{ A, C int }

//go:noinline
func fills(reply *reply, left int) {
	grow(left)
	reply.C = 5 * left
}

//go:noinline
func huge(i int) int {
	var room [16384]byte
	room[i%len(room)] = 1
	runtime.Gosched()
	return int(room[i%len(room)])
}

func fresh(wait *sync.WaitGroup, call func()) {
	wait.Add(1)
	go func() {
		defer wait.Done()
		call()
	}()
	wait.Wait()
}

func main() {
	calls := flag.Int("n", 10007, "calls of main.holds and of main.huge")
	duration := flag.Duration("d", 0, "go on for this long, whatever -n says")
	workers := flag.Int("workers", 4, "goroutines that start goroutines")
	flag.Parse()
	truth.Ready("grow")

	var next int64
	var all sync.WaitGroup
	start := time.Now()
	holdsCount, growCount, hugeCount := truth.Of("main.holds"), truth.Of("main.grow"), truth.Of("main.huge")
	fillsCount := truth.Of("main.fills")
	for w := 0; w < *workers; w++ {
		all.Add(1)
		go func() {
			defer all.Done()
			var wait sync.WaitGroup
			for {
				i := int(atomic.AddInt64(&next, 1)) - 1
				if *duration == 0 && i >= *calls || *duration != 0 && time.Since(start) >= *duration {
					return
				}
				fresh(&wait, func() {
					start := holdsCount.Enter()
					holds(depth)
					holdsCount.Leave(start)
					growCount.Add(depth + 1)
				})
				fresh(&wait, func() {
					var there reply
					start := fillsCount.Enter()
					fills(&there, depth)
					fillsCount.Leave(start)
					growCount.Add(int64(depth + 1 + there.C - 5*depth))
				})
				fresh(&wait, func() {
					start := hugeCount.Enter()
					huge(i)
					hugeCount.Leave(start)
				})
			}
		}()
	}
	all.Wait()
	truth.Print("grow", map[string]interface{}{"moved": atomic.LoadInt64(&moved)})
}
