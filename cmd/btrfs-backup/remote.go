package main

import (
	"context"
	"log/slog"
	"slices"

	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/job"
	"github.com/btrfs-backup/btrfs-backup/internal/terminal"
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

// look gives the directories that a command is to look at, and the machines that they are on.
func look(env environment, log *slog.Logger, r job.Reach, texts []string) ([]job.Place, *job.Machines, error) {
	places, c := job.ParseFolders(texts)
	return machinesOf(env, log, r, places, c)
}

// lookAtAll is look for what may also be in stores.
func lookAtAll(env environment, log *slog.Logger, r job.Reach, o readingOptions, config string, texts []string) ([]job.Place, *job.Machines, error) {
	places, c := job.ParseHoldings(texts)
	places, machines, err := machinesOf(env, log, r, places, c)
	if err == nil {
		machines.Reading = o.reading(env, config, places)
	}
	return places, machines, err
}

func machinesOf(env environment, log *slog.Logger, r job.Reach, places []job.Place, c job.Complaints) ([]job.Place, *job.Machines, error) {
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
	return terminal.Ask
}
