// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"runtime"
	"sync/atomic"

	"targets/tally"
)

var (
	nowhere        *reply
	panicked, left int64
	guardsTruth    = tally.Of("main.guards")
	passesTruth    = tally.Of("main.passes")
	failsTruth     = tally.Of("main.fails")
	sinksTruth     = tally.Of("main.sinks")
	cleansTruth    = tally.Of("main.cleans")
	exitsTruth     = tally.Of("main.exits")
)

// fails leaves by the panic that its argument asks for, or not at all.
//
//go:noinline
func fails(who int, goid int64) int {
	switch who % 7 {
	case 1:
		panic(who)
	case 2:
		return nowhere.value // SIGSEGV, of which the runtime makes a panic
	case 3:
		return []int{who}[who%7]
	case 4:
		return who / (who % 7 / 5)
	case 5:
		sinksTruth.Call(23)
		return sinks(who, 22)
	}
	sinksTruth.Add(12, goid, who, sinks(who, -11))
	return tally.Answer(who)
}

// sinks calls itself and panics at the bottom; with less than 0 it returns from there.
//
//go:noinline
func sinks(who, depth int) int {
	if depth == 0 {
		if who%7 == 5 {
			panic("bottom")
		}
		return tally.Answer(who)
	}
	if depth < 0 {
		return sinks(who, depth+1) + 0*depth
	}
	return sinks(who, depth-1) + 0*depth
}

// cleans is called while its caller panics; it may panic itself, and recover from that.
//
//go:noinline
func cleans(who int) (result int) {
	defer func() {
		if who%3 == 1 {
			_ = recover() // of its own, not of the one that is on its way
		}
	}()
	if who%3 == 1 {
		atomic.AddInt64(&panicked, 1)
		result = tally.Answer(who)
		panic("nested")
	}
	return tally.Answer(who)
}

// passes has panics pass through it: it recovers from some and panics again, or panics in their place.
//
//go:noinline
func passes(who int, goid int64) int {
	defer func() {
		start := cleansTruth.Enter()
		cleansTruth.Leave(start, goid, who, cleans(who))
		if who%5 == 1 {
			if reason := recover(); reason != nil {
				atomic.AddInt64(&panicked, 1)
				panic(reason)
			}
		}
		if who%5 == 2 && who%7 != 0 && who%7 != 6 {
			atomic.AddInt64(&panicked, 1)
			panic("instead")
		}
	}()
	start := failsTruth.Enter()
	result := fails(who, goid)
	failsTruth.Leave(start, goid, who, result)
	return result
}

// guards recovers: it always returns.
//
//go:noinline
func guards(who int, goid int64) (result int) {
	defer func() {
		if recover() != nil {
			atomic.AddInt64(&panicked, 1)
			result = tally.Answer(who)
		}
	}()
	start := passesTruth.Enter()
	result = passes(who, goid)
	passesTruth.Leave(start, goid, who, result)
	return result
}

// exits ends its goroutine in the middle of things, every other time while a panic is on its way.
//
//go:noinline
func exits(who int, goid int64) int {
	defer func() {
		start := cleansTruth.Enter()
		cleansTruth.Leave(start, goid, who, cleans(who))
		if who%3 == 0 {
			atomic.AddInt64(&left, 1)
			runtime.Goexit()
		}
	}()
	if who%3 == 0 && who%2 == 0 {
		panic("on its way")
	}
	if who%3 == 1 {
		atomic.AddInt64(&left, 1)
		runtime.Goexit()
	}
	return tally.Answer(who)
}

// panics: AMOUNT goroutines, 23 at once; on each seven guarded calls of which five panic, then a call that may end it.
func panics(n int) map[string]interface{} {
	inParallel(23, n, func(i int) {
		goid := tally.Goid()
		for who := 7 * i; who < 7*i+7; who++ {
			start := guardsTruth.Enter()
			guardsTruth.Leave(start, goid, who, guards(who, goid))
		}
		start := exitsTruth.Enter()
		exitsTruth.Leave(start, goid, i, exits(i, goid))
	})
	return map[string]interface{}{"panics": atomic.LoadInt64(&panicked), "goexits": atomic.LoadInt64(&left)}
}
