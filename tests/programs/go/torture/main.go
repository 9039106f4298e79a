// SPDX-License-Identifier: BSD-2-Clause

// torture does what tracers have killed Go programs by: torture [-n AMOUNT] SCENARIO
//
//	growth    stacks grow, move and shrink under calls that hold pointers into them (growth.go)
//	panics    calls are left by every kind of panic and by Goexit (panics.go)
//	storm     AMOUNT goroutines inside a call at once, which then change thread (storm.go)
//	births    10 * AMOUNT goroutines are made and end, as fast as can be (storm.go)
//	collect   the garbage collector runs all the time (collect.go)
//	spin      loops that only a signal interrupts (spin.go); PROFILE=1 with the profiler, SIGNALS=1 with signals
//	shapes    closures, method values, interfaces, deferred calls (shapes.go)
//	spawn     processes are started, while other goroutines go on (spawn.go)
//	all       growth, panics, births, collect, spin and shapes at the same time
package main

import (
	"sync"

	"targets/tally"
)

func main() {
	tally.Main(map[string]func(int) map[string]interface{}{
		"growth": growth, "panics": panics, "storm": storm, "births": births, "collect": collect, "spin": spin,
		"shapes": shapes, "spawn": spawn, "all": all,
	})
}

func all(n int) map[string]interface{} {
	var wait sync.WaitGroup
	for _, scenario := range []func(int) map[string]interface{}{growth, panics, births, collect, spin, shapes} {
		wait.Add(1)
		go func(scenario func(int) map[string]interface{}) {
			defer wait.Done()
			scenario(n)
		}(scenario)
	}
	wait.Wait()
	return nil
}
