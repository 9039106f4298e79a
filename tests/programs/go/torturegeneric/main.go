// SPDX-License-Identifier: BSD-2-Clause

// torturegeneric moves stacks under functions with type parameters: torturegeneric [-n AMOUNT] generics
package main

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"targets/tally"
)

type point struct{ x, y int }

// Stack is a stack of anything.
type Stack[T any] struct{ items []T }

// Push puts an item on top.
//
//go:noinline
func (s *Stack[T]) Push(who int, item T) int {
	s.items = append(s.items, item)
	return tally.Answer(who)
}

// Digs has a frame of 1 KB and an item of any type in each, and a pointer to that of the frame above.
//
//go:noinline
func Digs[T comparable](who int, item T, above *T, left int) int {
	var room [1024]byte
	room[left] = byte(who)
	if item != *above {
		return 0
	}
	if left == 0 {
		return tally.Answer(who)
	}
	here := item
	return Digs(who, here, &here, left-1) + int(room[left]) - int(byte(who))
}

var moves int64

func digs[T comparable](who int, goid int64, item T) {
	var stack Stack[T]
	var local int
	before := uintptr(unsafe.Pointer(&local))
	digsTruth.Add(who%47+1, goid, who, Digs(who, item, &item, who%47))
	if uintptr(unsafe.Pointer(&local)) != before {
		atomic.AddInt64(&moves, 1)
	}
	start := pushTruth.Enter()
	pushTruth.Leave(start, goid, who, stack.Push(who, item))
}

var digsTruth, pushTruth = tally.Of("main.Digs"), tally.Of("main.(*Stack).Push")

// generics: AMOUNT rounds with a number, a text, a struct, a pointer and a fraction, each on a fresh stack.
func generics(n int) map[string]interface{} {
	for i := 0; i < n; i++ {
		var wait sync.WaitGroup
		for _, work := range []func(int64){
			func(goid int64) { digs(i, goid, i) },
			func(goid int64) { digs(i, goid, "text") },
			func(goid int64) { digs(i, goid, point{i, i}) },
			func(goid int64) { digs(i, goid, &point{i, i}) },
			func(goid int64) { digs(i, goid, float64(i)) },
		} {
			wait.Add(1)
			go func(work func(int64)) {
				defer wait.Done()
				work(tally.Goid())
			}(work)
		}
		wait.Wait()
	}
	return map[string]interface{}{"moves": atomic.LoadInt64(&moves)}
}

func main() {
	tally.Main(map[string]func(int) map[string]interface{}{"generics": generics})
}
