// SPDX-License-Identifier: BSD-2-Clause

// panics leaves functions by panic and by runtime.Goexit: panics [-n ROUNDS]
//
//	main.recovers    calls main.middle and recovers: it always returns
//	main.middle      calls main.panicking: the panic passes through its frame, which has a deferred call
//	main.panicking   panics in every third round
//	main.exits       on a goroutine of its own, ended by Goexit in every third round
//	main.after       called once a round, on the goroutine that recovered: frames left behind must not count for it
package main

import (
	"flag"
	"runtime"
	"sync"

	"targets/truth"
)

var (
	middleCount    = truth.Of("main.middle")
	panickingCount = truth.Of("main.panicking")
	deferred       int
)

//go:noinline
func panicking(i int) int {
	if i%3 == 0 {
		panic(i)
	}
	return i
}

//go:noinline
func middle(i int) int {
	defer func() { deferred++ }()
	start := panickingCount.Enter()
	result := panicking(i)
	panickingCount.Leave(start)
	return result
}

//go:noinline
func recovers(i int) (result int) {
	defer func() {
		if recover() != nil {
			result = -1
		}
	}()
	start := middleCount.Enter()
	result = middle(i)
	middleCount.Leave(start)
	return result
}

//go:noinline
func exits(i int) int {
	if i%3 == 1 {
		runtime.Goexit()
	}
	return i
}

//go:noinline
func after(i int) int {
	return i + 1
}

func main() {
	rounds := flag.Int("n", 997, "rounds")
	flag.Parse()
	truth.Ready("panics")

	var wait sync.WaitGroup
	recoversCount, exitsCount, afterCount := truth.Of("main.recovers"), truth.Of("main.exits"), truth.Of("main.after")
	for i := 0; i < *rounds; i++ {
		start := recoversCount.Enter()
		recovers(i)
		recoversCount.Leave(start)

		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			start := exitsCount.Enter()
			exits(i)
			exitsCount.Leave(start)
		}(i)
		wait.Wait()

		start = afterCount.Enter()
		after(i)
		afterCount.Leave(start)
	}
	truth.Print("panics", map[string]interface{}{"deferred": deferred})
}
