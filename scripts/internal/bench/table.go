package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// printComparison prints a table in Markdown. Ratios are those of medians, to the first contestant.
func printComparison(w io.Writer, c testCase, all []contestant, results map[string][]usage) {
	fmt.Fprintf(w, "\n| %-36s | wall    | ratio | CPU     | ratio | memory |\n", c.name)
	fmt.Fprint(w, "|:-------------------------------------|--------:|------:|--------:|------:|-------:|\n")
	base := middle(results[all[0].name])
	for _, who := range all {
		u := middle(results[who.name])
		memory := ""
		if who.ours {
			memory = mebibytes(u.peak)
		}
		fmt.Fprintf(w, "| %-36s | %5.2f s |  %.2f | %5.2f s |  %.2f | %6s |\n", who.name,
			u.wall.Seconds(), ratio(u.wall, base.wall), u.cpu.Seconds(), ratio(u.cpu, base.cpu), memory)
	}
}

func printIdle(w io.Writer, name string, times idleTimes) {
	fmt.Fprintf(w, "\n| %-36s | wall    | CPU     | memory |\n", name)
	fmt.Fprint(w, "|:-------------------------------------|--------:|--------:|-------:|\n")
	row := func(name string, u usage) {
		fmt.Fprintf(w, "| %-36s | %5.2f s | %5.2f s | %6s |\n", name, u.wall.Seconds(), u.cpu.Seconds(), mebibytes(u.peak))
	}
	row("btrfs-backup -q", middle(times.whole))
	row("btrfs-backup -q --no-snapshot", middle(times.check))
	row("btrfs-backup -q --dry-run, none sent", middle(times.plan))
}

// printRemote is printComparison for what took processor time here and there. The ratio is that of both together.
func printRemote(w io.Writer, c remoteCase, results map[string][]usage) {
	fmt.Fprintf(w, "\n| %-37s | wall    | ratio | CPU here | there   | ratio | memory |\n", c.name)
	fmt.Fprint(w, "|:--------------------------------------|--------:|------:|---------:|--------:|------:|-------:|\n")
	base := middle(results[c.contestants[0].name])
	for _, who := range c.contestants {
		u := middle(results[who.name])
		memory := ""
		if who.ours {
			memory = mebibytes(u.peak)
		}
		fmt.Fprintf(w, "| %-37s | %5.2f s |  %.2f |  %5.2f s | %5.2f s |  %.2f | %6s |\n", who.name, u.wall.Seconds(),
			ratio(u.wall, base.wall), u.cpu.Seconds(), u.there.Seconds(), ratio(u.cpu+u.there, base.cpu+base.there), memory)
	}
}

func printListings(w io.Writer, ways []*listing) {
	fmt.Fprintf(w, "\n| %-37s | wall    | connections |\n", listCase)
	fmt.Fprint(w, "|:--------------------------------------|--------:|------------:|\n")
	for _, way := range ways {
		fmt.Fprintf(w, "| %-37s | %5.2f s | %11d |\n", way.name, middle(way.took).wall.Seconds(), way.connections)
	}
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n/mib) }

// middle gives the median of each figure, and the highest peak.
func middle(all []usage) usage {
	return usage{
		wall:  median(all, func(u usage) time.Duration { return u.wall }),
		cpu:   median(all, func(u usage) time.Duration { return u.cpu }),
		there: median(all, func(u usage) time.Duration { return u.there }),
		peak:  slices.MaxFunc(all, func(a, b usage) int { return int(a.peak - b.peak) }).peak,
	}
}

func median(all []usage, figure func(usage) time.Duration) time.Duration {
	var figures []time.Duration
	for _, u := range all {
		figures = append(figures, figure(u))
	}
	slices.Sort(figures)
	n := len(figures)
	return (figures[(n-1)/2] + figures[n/2]) / 2
}

func ratio(a, b time.Duration) float64 { return a.Seconds() / b.Seconds() }
