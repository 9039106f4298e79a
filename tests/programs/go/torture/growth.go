// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"targets/tally"
)

type reply struct{ who, value int }

var moves, shrinks int64

// descends has frames of 1 KB, which only a stack that grows has room for.
//
//go:noinline
func descends(who, left int) int {
	var room [1024]byte
	room[left] = byte(who)
	if left == 0 {
		return tally.Answer(who)
	}
	below := descends(who, left-1)
	return below + int(room[left]) - int(byte(who))
}

// fills writes to its caller's frame, which has moved by then.
//
//go:noinline
func fills(who int, reply *reply, depth int) int {
	result := descends(who, depth)
	reply.value = 2 * result
	return result
}

// holds is on the stack while it moves.
//
//go:noinline
func holds(who, depth int, goid int64) int {
	var there reply
	before := uintptr(unsafe.Pointer(&there))
	start := fillsTruth.Enter()
	result := fills(who, &there, depth)
	fillsTruth.Leave(start, goid, who, result)
	if uintptr(unsafe.Pointer(&there)) != before {
		atomic.AddInt64(&moves, 1)
	}
	descendsTruth.Add(depth+1, goid, who, result)
	return there.value - result
}

// collects has the garbage collector take away the stack that nothing needs any more, under its own frame.
//
//go:noinline
func collects(who int) int {
	var local int
	before := uintptr(unsafe.Pointer(&local))
	runtime.GC()
	if uintptr(unsafe.Pointer(&local)) != before {
		atomic.AddInt64(&shrinks, 1)
	}
	return tally.Answer(who) + local
}

// huge has more than a fresh stack has room for: it grows in its own prologue.
//
//go:noinline
func huge(who int) int {
	var room [16384]byte
	room[who%len(room)] = byte(who)
	runtime.Gosched()
	return tally.Answer(who) + int(room[who%len(room)]) - int(byte(who))
}

var descendsTruth, fillsTruth = tally.Of("main.descends"), tally.Of("main.fills")

// growth: AMOUNT goroutines, 23 at once; on each the stack grows, shrinks and grows again.
func growth(n int) map[string]interface{} {
	holdsTruth, collectsTruth, hugeTruth := tally.Of("main.holds"), tally.Of("main.collects"), tally.Of("main.huge")
	inParallel(23, n, func(i int) {
		goid := tally.Goid()
		for round := 0; round < 2; round++ {
			start := holdsTruth.Enter()
			result := holds(i, 10+i%97, goid)
			holdsTruth.Leave(start, goid, i, result)
			if i%5 == 0 && round == 0 {
				start = collectsTruth.Enter()
				result = collects(i)
				collectsTruth.Leave(start, goid, i, result)
			}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			goid := tally.Goid()
			start := hugeTruth.Enter()
			hugeTruth.Leave(start, goid, i, huge(i))
		}()
		<-done
	})
	return map[string]interface{}{"moves": atomic.LoadInt64(&moves), "shrinks": atomic.LoadInt64(&shrinks)}
}

// inParallel calls work with 0 to n-1, each on a goroutine of its own, some of them at once.
func inParallel(atOnce, n int, work func(i int)) {
	var wait sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i := 0; i < n; i++ {
		wait.Add(1)
		places <- struct{}{}
		go func(i int) {
			defer func() {
				<-places
				wait.Done()
			}()
			work(i)
		}(i)
	}
	wait.Wait()
}
