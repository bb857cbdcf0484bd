package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"
	"golang.org/x/time/rate"

	"btrfs-backup/internal/job"
	"btrfs-backup/internal/progress"
)

// defineReach defines how other machines are reached.
func defineReach(r *job.Reach, f *pflag.FlagSet) {
	f.StringArrayVar(&r.Options, "ssh-opt", nil, "`KEY=VALUE` as for ssh -o, may be repeated")
	f.BoolVar(&r.Sudo, "ssh-sudo", false, "use sudo on other machines")
	f.StringVar(&r.Compress, "compress", r.Compress, "`HOW`: auto, zstd or none")
}

// defineFurtherReach defines what few need.
func defineFurtherReach(r *job.Reach, f *pflag.FlagSet) {
	f.StringVar(&r.Program, "ssh-program", "", "reach other machines by this ssh `PROGRAM`")
	f.StringVar(&r.Command, "remote-command", r.Command, "run `PATH` there")
	f.StringVar(&r.Agent, "agent", r.Agent, "`WHICH`: auto or installed")
	f.StringVar(&r.Agents, "agents", r.Agents, "`DIR` of the programs for other CPUs")
	f.IntVar(&r.Channels, "channels", r.Channels, "`N` SSH sessions for each transfer")
	f.DurationVar(&r.ResumeWindow, "resume-window", r.ResumeWindow, "resume transfers within `TIME`")
}

// look gives the places that a command is to look at, and the machines that they are on.
func look(env environment, log *slog.Logger, r job.Reach, texts []string) ([]job.Place, *job.Machines, error) {
	places, c := job.ParseFolders(texts)
	if err := slices.Concat(c, r.Check()).Err(); err != nil {
		return nil, nil, err
	}
	return places, job.NewMachines(r, env.ofJob(log, nil)), nil
}

// ask gives the function that asks the user, or nil without a terminal.
func (e environment) ask() func(ctx context.Context, question string, secret bool) (string, error) {
	if e.terminal == nil {
		return nil
	}
	return func(ctx context.Context, question string, secret bool) (string, error) {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		defer tty.Close()
		before, err := term.GetState(int(tty.Fd()))
		if err != nil {
			return "", err
		}
		prompt(tty, question)
		answered := make(chan answer, 1)
		go func() { answered <- readAnswer(tty, secret) }()
		select {
		case a := <-answered:
			if errors.Is(a.err, io.EOF) {
				fmt.Fprintln(tty)
			}
			return a.text, a.err
		case <-ctx.Done():
			fmt.Fprintln(tty)
			return "", errors.Join(context.Cause(ctx), term.Restore(int(tty.Fd()), before))
		}
	}
}

type answer struct {
	text string
	err  error
}

func readAnswer(tty *os.File, secret bool) answer {
	if !secret {
		text, err := bufio.NewReader(tty).ReadString('\n')
		return answer{strings.TrimSpace(text), err}
	}
	text, err := term.ReadPassword(int(tty.Fd()))
	fmt.Fprintln(tty)
	return answer{string(text), err}
}

// prompt writes a question, which may be another machine's.
func prompt(tty io.Writer, question string) { fmt.Fprintf(progress.Printable(tty), "%s ", question) }

// rateFlag is a number of bytes per second: 10M, 1.5G, 500K.
type rateFlag rate.Limit

func (r *rateFlag) Type() string { return "rate" }

func (r *rateFlag) String() string {
	if *r == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(*r), 'f', -1, 64)
}

func (r *rateFlag) Set(text string) error {
	number, factor := text, 1.0
	if i := strings.IndexAny(strings.ToUpper(text), "KMGT"); i >= 0 && i >= len(text)-len("MiB") {
		factor = map[byte]float64{'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}[strings.ToUpper(text)[i]]
		number = text[:i]
		if unit := strings.ToUpper(text[i+1:]); unit != "" && unit != "B" && unit != "IB" {
			return errors.New("not a rate")
		}
	}
	value, err := strconv.ParseFloat(number, 64)
	if err != nil || !(value*factor >= 1 && value*factor <= 1<<50) { // nor is NaN a rate
		return errors.New("not a rate")
	}
	*r = rateFlag(value * factor)
	return nil
}
