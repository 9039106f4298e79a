// SPDX-License-Identifier: BSD-2-Clause

// steady works at a bounded rate until it gets a line, and checks all it does: steady [-r ROUNDS]
//
//	main.mix    recursive, on fresh goroutines whose stacks grow and move meanwhile, with the garbage collector at work
//
// "checksum" and "expected": of main.mix, and of a copy that is never traced. A round a goroutine, ROUNDS a second.
package main

import (
	"flag"
	"sync"
	"sync/atomic"
	"time"

	"targets/truth"
)

const depth = 20

var kept atomic.Value

//go:noinline
func mix(x uint64, left int) uint64 {
	var room [256]byte
	room[left] = byte(x)
	if left > 0 {
		x = mix(x*6364136223846793005+1, left-1)
	}
	return x ^ uint64(room[left])
}

func copyOfMix(x uint64) uint64 {
	var room [depth + 1]byte
	for left := depth; left > 0; left-- {
		room[left] = byte(x)
		x = x*6364136223846793005 + 1
	}
	room[0] = byte(x)
	for left := 0; left <= depth; left++ {
		x ^= uint64(room[left])
	}
	return x
}

func main() {
	rate := flag.Int("r", 100, "rounds a second")
	flag.Parse()
	truth.Ready("steady")

	var ended int32
	go func() {
		truth.Wait()
		atomic.StoreInt32(&ended, 1)
	}()
	var checksum, expected, rounds uint64
	mixes := truth.Of("main.mix")
	for atomic.LoadInt32(&ended) == 0 {
		var wait sync.WaitGroup
		var results [10]uint64
		for i := range results {
			wait.Add(1)
			go func(i int) {
				defer wait.Done()
				results[i] = mix(rounds*10+uint64(i), depth)
				kept.Store(make([]byte, 10000))
			}(i)
		}
		wait.Wait()
		for i, result := range results {
			checksum = checksum*31 + result
			expected = expected*31 + copyOfMix(rounds*10+uint64(i))
		}
		mixes.Add(int64(len(results) * (depth + 1)))
		rounds++
		time.Sleep(time.Second * time.Duration(len(results)) / time.Duration(*rate))
	}
	truth.Print("steady", map[string]interface{}{"checksum": checksum, "expected": expected, "wrong": 0})
}
