// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"os/exec"
	"sync/atomic"

	"targets/tally"
)

// spawns starts a process and waits for its end; for a moment the child runs in this program's own memory.
//
//go:noinline
func spawns(who int, path string) int {
	if err := exec.Command(path).Run(); err != nil {
		panic(err)
	}
	return tally.Answer(who)
}

// spawn: AMOUNT processes, 4 at once, while others call main.tiny.
func spawn(n int) map[string]interface{} {
	spawnsTruth, tinyTruth := tally.Of("main.spawns"), tally.Of("main.tiny")
	var stop int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		goid := tally.Goid()
		for who := 0; atomic.LoadInt32(&stop) == 0 && who < 100*n; who++ {
			tinyTruth.Add(1, goid, who, tiny(who))
		}
	}()
	inParallel(4, n, func(i int) {
		goid := tally.Goid()
		start := spawnsTruth.Enter()
		spawnsTruth.Leave(start, goid, i, spawns(i, "/bin/true"))
	})
	atomic.StoreInt32(&stop, 1)
	<-done
	return map[string]interface{}{"spawned": n}
}
