// SPDX-License-Identifier: BSD-2-Clause

// migrate has goroutines change thread within a call: migrate [-g GOROUTINES] [-n CALLS] [-us MICROSECONDS]
//
//	main.nap    sleeps MICROSECONDS * (1 + call number % 5); CALLS times in each of GOROUTINES at once
//	main.asks   sends on a channel and waits for the answer; as often
//
// "migrated": how many calls of main.nap returned on another thread than they were called on.
package main

import (
	"flag"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"targets/truth"
)

//go:noinline
func nap(d time.Duration) int {
	time.Sleep(d)
	return int(d)
}

//go:noinline
func asks(questions chan<- int, answers <-chan int, i int) int {
	questions <- i
	return <-answers
}

func main() {
	goroutines := flag.Int("g", 50, "goroutines at once")
	calls := flag.Int("n", 101, "calls in each of them")
	us := flag.Int("us", 1000, "the shortest sleep")
	flag.Parse()
	runtime.GOMAXPROCS(8) // more threads than this machine may have cores: more to change to
	truth.Ready("migrate")

	var migrated int64
	var wait sync.WaitGroup
	napCount, asksCount := truth.Of("main.nap"), truth.Of("main.asks")
	for g := 0; g < *goroutines; g++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			questions, answers := make(chan int), make(chan int)
			go func() {
				for question := range questions {
					answers <- question + 1
				}
			}()
			defer close(questions)
			for i := 0; i < *calls; i++ {
				before := truth.Thread()
				start := napCount.Enter()
				nap(time.Duration(*us*(1+i%5)) * time.Microsecond)
				napCount.Leave(start)
				if truth.Thread() != before {
					atomic.AddInt64(&migrated, 1)
				}

				start = asksCount.Enter()
				asks(questions, answers, i)
				asksCount.Leave(start)
			}
		}()
	}
	wait.Wait()
	truth.Print("migrate", map[string]interface{}{"migrated": migrated})
}
