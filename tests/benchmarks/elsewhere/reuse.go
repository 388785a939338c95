// golang.org/x/oauth2 at the work of bench_peers.py: `reuse cold 1000`, `reuse renewal` or `reuse hit`, each followed by
// the token endpoint. Prints numbers: how many failed; the slowest call in seconds and how many waited; nanoseconds.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	callers = 100
	pause   = 20 * time.Millisecond
	latency = 300 * time.Millisecond
	calls   = 1000000
)

func main() {
	config := clientcredentials.Config{
		ClientID:     "svc",
		ClientSecret: "s3cret",
		TokenURL:     os.Args[len(os.Args)-1],
		AuthStyle:    oauth2.AuthStyleInHeader,
	}
	source := config.TokenSource(context.Background())
	switch os.Args[1] {
	case "cold":
		count, err := strconv.Atoi(os.Args[2])
		must(err)
		failed := 0
		for _, call := range together(source, count, 0) {
			if call.err != nil {
				failed++
			}
		}
		fmt.Println(failed)
	case "renewal":
		_, err := source.Token()
		must(err)
		worst, waited := time.Duration(0), 0
		for _, call := range together(source, callers, pause) {
			must(call.err)
			if call.took > worst {
				worst = call.took
			}
			if call.took > latency/2 {
				waited++
			}
		}
		fmt.Println(worst.Seconds(), waited)
	case "hit":
		_, err := source.Token()
		must(err)
		times := []float64{}
		for round := 0; round < 11; round++ {
			begun := time.Now()
			for i := 0; i < calls; i++ {
				source.Token()
			}
			times = append(times, float64(time.Since(begun).Nanoseconds())/calls)
		}
		sort.Float64s(times)
		fmt.Println(times[len(times)/2])
	}
}

type call struct {
	took time.Duration
	err  error
}

// together starts count callers, one each pause, and returns what became of them.
func together(source oauth2.TokenSource, count int, pause time.Duration) []call {
	var group sync.WaitGroup
	found := make([]call, count)
	for i := range found {
		group.Add(1)
		go func(mine *call) {
			defer group.Done()
			begun := time.Now()
			_, mine.err = source.Token()
			mine.took = time.Since(begun)
		}(&found[i])
		time.Sleep(pause)
	}
	group.Wait()
	return found
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
