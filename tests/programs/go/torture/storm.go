// SPDX-License-Identifier: BSD-2-Clause

package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"targets/tally"
)

var (
	inside   int64
	migrated int64
	oneOf50  = make(chan struct{}, 50) // so many at once may have a thread to themselves
)

// gathers returns when all are inside.
//
//go:noinline
func gathers(who int, gate <-chan struct{}) int {
	atomic.AddInt64(&inside, 1)
	<-gate
	return tally.Answer(who)
}

//go:noinline
func naps(who int, d time.Duration) int {
	time.Sleep(d)
	return tally.Answer(who)
}

//go:noinline
func yields(who int) int {
	runtime.Gosched()
	runtime.Gosched()
	return tally.Answer(who)
}

// pins waits in the kernel, on a thread that is its own for so long.
//
//go:noinline
func pins(who int, d time.Duration) int {
	runtime.LockOSThread()
	blocks(d)
	runtime.UnlockOSThread()
	runtime.Gosched()
	return tally.Answer(who)
}

// waits waits in the kernel; the scheduler takes its processor away meanwhile.
//
//go:noinline
func waits(who int, d time.Duration) int {
	blocks(d)
	return tally.Answer(who)
}

func blocks(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); { // a signal may end it early
		wait := syscall.NsecToTimespec(d.Nanoseconds())
		_ = syscall.Nanosleep(&wait, nil)
	}
}

// asks goes to another goroutine and back.
//
//go:noinline
func asks(who int, questions chan<- int, answers <-chan int) int {
	questions <- who
	return <-answers
}

// storm: AMOUNT goroutines are inside main.gathers at the same moment; then each calls what may change its thread.
func storm(n int) map[string]interface{} {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	gathersTruth, napsTruth, yieldsTruth := tally.Of("main.gathers"), tally.Of("main.naps"), tally.Of("main.yields")
	pinsTruth, waitsTruth, asksTruth := tally.Of("main.pins"), tally.Of("main.waits"), tally.Of("main.asks")
	questions, answers := make(chan int), make(chan int)
	go func() {
		for who := range questions {
			answers <- tally.Answer(who)
		}
	}()
	defer close(questions)

	atomic.StoreInt64(&inside, 0)
	var wait sync.WaitGroup
	var asking sync.Mutex
	gate := make(chan struct{})
	for i := 0; i < n; i++ {
		wait.Add(1)
		go func(who int) {
			defer wait.Done()
			goid := tally.Goid()
			timed := func(truth *tally.Function, least time.Duration, call func() int) {
				thread := syscall.Gettid()
				start := truth.Enter()
				truth.Leave(start, goid, who, call())
				truth.Took(least)
				if syscall.Gettid() != thread {
					atomic.AddInt64(&migrated, 1)
				}
			}
			timed(gathersTruth, 0, func() int { return gathers(who, gate) })
			us := time.Duration(100*(1+who%5)) * time.Microsecond
			timed(napsTruth, us, func() int { return naps(who, us) })
			timed(yieldsTruth, 0, func() int { return yields(who) })
			oneOf50 <- struct{}{}
			if who%7 == 0 {
				timed(pinsTruth, us, func() int { return pins(who, us) })
			} else if who%7 == 1 {
				timed(waitsTruth, us, func() int { return waits(who, us) })
			}
			<-oneOf50
			asking.Lock()
			timed(asksTruth, 0, func() int { return asks(who, questions, answers) })
			asking.Unlock()
		}(i)
	}
	for atomic.LoadInt64(&inside) < int64(n) {
		runtime.Gosched()
	}
	most := runtime.NumGoroutine()
	stop := make(chan struct{})
	go func() { // the number of processors changes all the time
		for procs := 0; ; procs++ {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
				runtime.GOMAXPROCS(1 + procs%8)
			}
		}
	}()
	close(gate)
	wait.Wait()
	close(stop)
	return map[string]interface{}{"migrated": atomic.LoadInt64(&migrated), "most": most}
}

//go:noinline
func born(who int) int {
	if who%11 == 0 {
		runtime.Gosched()
	}
	return tally.Answer(who)
}

// births: 10 * AMOUNT goroutines, each ends after a call or two: their g's and stacks are used again and again.
func births(n int) map[string]interface{} {
	bornTruth, usTruth := tally.Of("main.born"), tally.Of("main.descends")
	start := time.Now()
	inParallel(101, 10*n, func(i int) {
		goid := tally.Goid()
		start := bornTruth.Enter()
		bornTruth.Leave(start, goid, i, born(i))
		if i%13 == 0 {
			usTruth.Add(6, goid, i, descends(i, 5))
		}
	})
	return map[string]interface{}{"born": 10 * n, "persecond": int(float64(10*n) / time.Since(start).Seconds())}
}
