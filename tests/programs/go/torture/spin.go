// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"io/ioutil"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"sync/atomic"
	"syscall"

	"targets/tally"
)

// spins is a loop without a call: only a signal takes it off its processor.
//
//go:noinline
func spins(who, times int) int {
	x := uint64(who)
	for i := 0; i < times; i++ {
		x = x*6364136223846793005 + 1442695040888963407
	}
	if x == 1 {
		return 0
	}
	return tally.Answer(who)
}

//go:noinline
func tiny(who int) int {
	return tally.Answer(who)
}

// calls calls main.tiny in a loop: signals meet the probed instructions themselves.
//
//go:noinline
func calls(who, times int) int {
	sum := 0
	for i := 0; i < times; i++ {
		sum += tiny(who)
	}
	return sum - (times-1)*tally.Answer(who)
}

// spin: AMOUNT rounds on 4 goroutines, while others collect garbage (which stops everybody, by SIGURG), and by wish send
// signals or profile.
func spin(n int) map[string]interface{} {
	spinsTruth, tinyTruth, callsTruth := tally.Of("main.spins"), tally.Of("main.tiny"), tally.Of("main.calls")
	var sent, received, collections int64
	stop := make(chan struct{})
	background := func(work func()) {
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
					work()
				}
			}
		}()
	}
	background(func() {
		runtime.GC()
		atomic.AddInt64(&collections, 1)
	})
	if os.Getenv("SIGNALS") != "" {
		caught := make(chan os.Signal, 997)
		signal.Notify(caught, syscall.SIGUSR1, syscall.SIGCHLD)
		defer signal.Stop(caught)
		background(func() {
			_ = syscall.Kill(os.Getpid(), syscall.SIGUSR1)
			_ = syscall.Kill(os.Getpid(), syscall.SIGCHLD)
			atomic.AddInt64(&sent, 2)
		})
		background(func() {
			select {
			case <-caught:
				atomic.AddInt64(&received, 1)
			case <-stop:
			}
		})
	}
	if os.Getenv("PROFILE") != "" {
		if err := pprof.StartCPUProfile(ioutil.Discard); err != nil {
			panic(err)
		}
		defer pprof.StopCPUProfile()
	}
	inParallel(4, n, func(i int) {
		goid := tally.Goid()
		start := spinsTruth.Enter()
		spinsTruth.Leave(start, goid, i, spins(i, 1000003))
		start = callsTruth.Enter()
		result := calls(i, 101)
		callsTruth.Leave(start, goid, i, result)
		tinyTruth.Add(101, goid, i, result)
	})
	close(stop)
	return map[string]interface{}{
		"collections": atomic.LoadInt64(&collections), "sent": atomic.LoadInt64(&sent),
		"received": atomic.LoadInt64(&received),
	}
}
