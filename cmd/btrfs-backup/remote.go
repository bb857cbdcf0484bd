package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"
	"golang.org/x/time/rate"

	"btrfs-backup/internal/host"
	"btrfs-backup/transport/ssh"
	"btrfs-backup/transport/wire"
)

// remoteOptions tell how other machines are reached.
type remoteOptions struct {
	sshOptions    []string
	sshProgram    string
	sshSudo       bool
	remoteCommand string
	channels      int
	compress      string
	resumeWindow  time.Duration
}

const defaultCommand = "btrfs-backup"

func (o *remoteOptions) define(f *pflag.FlagSet) {
	f.StringArrayVar(&o.sshOptions, "ssh-opt", nil, "`KEY=VALUE` as for ssh -o, may be repeated")
	f.BoolVar(&o.sshSudo, "ssh-sudo", false, "use sudo on other machines")
}

// defineFurther defines what few need.
func (o *remoteOptions) defineFurther(f *pflag.FlagSet) {
	f.StringVar(&o.sshProgram, "ssh-program", "", "reach other machines by this ssh `PROGRAM`")
	f.StringVar(&o.remoteCommand, "remote-command", defaultCommand, "run `PATH` there")
}

// defineTransfer defines what only transfers need.
func (o *remoteOptions) defineTransfer(f *pflag.FlagSet) {
	f.IntVar(&o.channels, "channels", 4, "`N` SSH sessions for each transfer")
	f.DurationVar(&o.resumeWindow, "resume-window", time.Hour, "go on after a break of up to `TIME`")
}

// hosts are the machines of a run, each with one connection.
type hosts struct {
	local   *host.Local
	options host.AgentOptions
	ssh     ssh.Options
	remote  map[ssh.Target]*host.Agent
	tunnels map[ssh.Target]*ssh.Machine
}

func (o *remoteOptions) hosts(env environment, log *slog.Logger) (*hosts, error) {
	compression, err := wire.ParseCompression(orDefault(o.compress, "auto"))
	if err != nil {
		return nil, &usageError{msg: fmt.Sprintf("--compress %s is unknown", o.compress), hint: "use auto, zstd or none"}
	}
	if o.channels < 0 || o.channels > 64 {
		return nil, &usageError{msg: fmt.Sprintf("--channels %d is out of range", o.channels), hint: "use 1 to 64"}
	}
	h := &hosts{local: host.NewLocal(log), remote: make(map[ssh.Target]*host.Agent),
		tunnels: make(map[ssh.Target]*ssh.Machine)}
	command := o.remoteCommand
	if command == defaultCommand {
		command = ""
	}
	h.options = host.AgentOptions{Log: log, Version: programVersion(), Command: command, Sudo: o.sshSudo,
		Channels: max(o.channels, 1), Compression: compression, ResumeWindow: o.resumeWindow}
	h.ssh = ssh.Options{Options: o.sshOptions, Program: o.sshProgram, Log: log, Level: slog.LevelDebug, Ask: env.ask()}
	return h, nil
}

// folders gives the places that a command is to look at, and their machines.
func (o *remoteOptions) folders(env environment, log *slog.Logger, texts []string) (*hosts, []place, error) {
	places, err := parsePlaces(texts)
	if err != nil {
		return nil, nil, err
	}
	for i, p := range places {
		if err := mustBeFolder(texts[i], p); err != nil {
			return nil, nil, err
		}
	}
	hosts, err := o.hosts(env, log)
	return hosts, places, err
}

func orDefault(value, other string) string {
	if value == "" {
		return other
	}
	return value
}

// of gives the machine of a place.
func (h *hosts) of(p place) host.Trees {
	if p.machine == nil {
		return h.local
	}
	r, ok := h.remote[*p.machine]
	if !ok {
		r = host.NewAgent(ssh.New(*p.machine, h.ssh), h.options)
		h.remote[*p.machine] = r
	}
	return r
}

// tunnel gives how a machine is reached that is only passed through. The run ends with the connection.
func (h *hosts) tunnel(through ssh.Target) *ssh.Machine {
	s, ok := h.tunnels[through]
	if !ok {
		s = ssh.New(through, h.ssh)
		h.tunnels[through] = s
	}
	return s
}

// Close ends the connections.
func (h *hosts) Close() {
	for _, r := range h.remote {
		_ = r.Close() // nothing is under way any more
	}
	for _, s := range h.tunnels {
		_ = s.Close()
	}
}

// ask gives the function that asks the user, or nil without a terminal.
func (e environment) ask() func(ctx context.Context, question string, secret bool) (string, error) {
	if e.terminal == nil {
		return nil
	}
	return func(_ context.Context, question string, secret bool) (string, error) {
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		defer tty.Close()
		fmt.Fprintf(tty, "%s ", question)
		if !secret {
			answer, err := bufio.NewReader(tty).ReadString('\n')
			return strings.TrimSpace(answer), err
		}
		answer, err := term.ReadPassword(int(tty.Fd()))
		fmt.Fprintln(tty)
		return string(answer), err
	}
}

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
