// SPDX-License-Identifier: BSD-2-Clause

// torturecgo goes from Go to C and back while stacks grow and panics pass: torturecgo [-n AMOUNT] callbacks
package main

/*
#include <stdlib.h>

extern int goAnswers(int who, int depth);
extern int goCompares(void *a, void *b);

__attribute__((noinline)) static int bounce(int who, int depth)
{
	return goAnswers(who, depth);
}

static int compare(const void *a, const void *b)
{
	return goCompares((void *)a, (void *)b);
}

static void sort(int *values, size_t count)
{
	qsort(values, count, sizeof(*values), compare);
}
*/
import "C"

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"targets/tally"
)

var (
	callbacksDone, panicked, moves int64
	crossesTruth, sortsTruth       = tally.Of("main.crosses"), tally.Of("main.sorts")
	descendsTruth, survivesTruth   = tally.Of("main.descends"), tally.Of("main.survives")
)

//go:noinline
func descends(who, left int) int {
	var room [1024]byte
	room[left] = byte(who)
	if left == 0 {
		runtime.Gosched()
		return tally.Answer(who)
	}
	return descends(who, left-1) + int(room[left]) - int(byte(who))
}

//export goAnswers
func goAnswers(who, depth C.int) C.int {
	atomic.AddInt64(&callbacksDone, 1)
	if depth < 0 {
		panic("through C")
	}
	result := descends(int(who), int(depth))
	descendsTruth.Add(int(depth)+1, tally.Goid(), int(who), result)
	return C.int(result)
}

//export goCompares
func goCompares(a, b unsafe.Pointer) C.int {
	atomic.AddInt64(&callbacksDone, 1)
	return *(*C.int)(a) - *(*C.int)(b)
}

// crosses goes to C, from there to Go, and there deep enough for its stack to move.
//
//go:noinline
func crosses(who, depth int) int {
	var local int
	before := uintptr(unsafe.Pointer(&local))
	result := int(C.bounce(C.int(who), C.int(depth)))
	if uintptr(unsafe.Pointer(&local)) != before {
		atomic.AddInt64(&moves, 1)
	}
	return result + local
}

// sorts has C call Go as often as sorting takes.
//
//go:noinline
func sorts(who int) int {
	values := [23]C.int{}
	for i := range values {
		values[i] = C.int((i*7 + who) % 23)
	}
	C.sort(&values[0], 23)
	for i := range values {
		if int(values[i]) != i {
			return 0
		}
	}
	return tally.Answer(who)
}

// survives recovers from a panic that comes through C frames.
//
//go:noinline
func survives(who int) (result int) {
	defer func() {
		if recover() != nil {
			atomic.AddInt64(&panicked, 1)
			result = tally.Answer(who)
		}
	}()
	C.bounce(C.int(who), -1)
	return 0
}

// callbacks: AMOUNT rounds on 7 goroutines.
func callbacks(n int) map[string]interface{} {
	var wait sync.WaitGroup
	for worker := 0; worker < 7; worker++ {
		wait.Add(1)
		go func(worker int) {
			defer wait.Done()
			for i := worker; i < n; i += 7 {
				done := make(chan struct{})
				go func() {
					defer close(done)
					goid := tally.Goid()
					start := crossesTruth.Enter()
					crossesTruth.Leave(start, goid, i, crosses(i, i%47))
					start = sortsTruth.Enter()
					sortsTruth.Leave(start, goid, i, sorts(i))
					start = survivesTruth.Enter()
					survivesTruth.Leave(start, goid, i, survives(i))
				}()
				<-done
			}
		}(worker)
	}
	wait.Wait()
	return map[string]interface{}{
		"callbacks": atomic.LoadInt64(&callbacksDone), "panics": atomic.LoadInt64(&panicked),
		"moves": atomic.LoadInt64(&moves),
	}
}

func main() {
	tally.Main(map[string]func(int) map[string]interface{}{"callbacks": callbacks})
}
