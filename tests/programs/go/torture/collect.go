// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"runtime"
	"runtime/debug"
	"sync"

	"targets/tally"
)

type tree struct {
	left, right *tree
	who         int
}

// allocates makes garbage and keeps some.
//
//go:noinline
func allocates(who int, kept [][]byte) int {
	for i := range kept {
		kept[i] = make([]byte, 100+who%997)
		kept[i][who%100] = byte(who)
	}
	return tally.Answer(who) + int(kept[0][who%100]) - int(byte(who))
}

// plants has pointers in registers and frames that the collector must find, at every depth.
//
//go:noinline
func plants(who int, into **tree, depth int) int {
	*into = &tree{who: who}
	if depth > 0 {
		plants(who, &(*into).left, depth-1)
		plants(who, &(*into).right, depth-1)
	}
	return tally.Answer(who)
}

// walks reads what plants made.
//
//go:noinline
func walks(who int, from *tree) int {
	sum := 0
	if from.left != nil {
		sum = walks(who, from.left) + walks(who, from.right) - 2*tally.Answer(who)
	}
	return tally.Answer(from.who) + sum
}

// collect: AMOUNT rounds of making and reading memory, while collections never end and memory is given back.
func collect(n int) map[string]interface{} {
	allocatesTruth, plantsTruth, walksTruth := tally.Of("main.allocates"), tally.Of("main.plants"), tally.Of("main.walks")
	stop := make(chan struct{})
	var collectors sync.WaitGroup
	collectors.Add(1)
	go func() {
		defer collectors.Done()
		for round := 0; ; round++ {
			select {
			case <-stop:
				return
			default:
			}
			if round%23 == 0 {
				debug.FreeOSMemory()
			} else {
				runtime.GC()
			}
		}
	}()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	inParallel(7, n, func(i int) {
		goid := tally.Goid()
		kept := make([][]byte, 23)
		start := allocatesTruth.Enter()
		allocatesTruth.Leave(start, goid, i, allocates(i, kept))
		var root *tree
		plantsTruth.Add(63, goid, i, plants(i, &root, 5))
		walksTruth.Add(63, goid, i, walks(i, root))
		runtime.KeepAlive(kept)
	})
	close(stop)
	collectors.Wait()
	runtime.ReadMemStats(&after)
	return map[string]interface{}{"collections": after.NumGC - before.NumGC}
}
