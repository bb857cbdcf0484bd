package job

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/btrfs-backup/btrfs-backup/internal/engine"
	"github.com/btrfs-backup/btrfs-backup/internal/host"
	"github.com/btrfs-backup/btrfs-backup/internal/host/agent"
	"github.com/btrfs-backup/btrfs-backup/internal/host/local"
	"github.com/btrfs-backup/btrfs-backup/internal/progress"
	"github.com/btrfs-backup/btrfs-backup/transport/ssh"
)

// An Environment is what a run is given beside what its user wants.
type Environment struct {
	Log      *slog.Logger
	Progress *progress.Display // nil: not shown
	Now      func() time.Time
	Version  string        // of this program
	Around   engine.Around // what runs before and after phases; nil: nothing
	State    string        // directory in which this machine remembers what it saw of others
	// Ask asks the user; see ssh.Options. It is nil if there is nobody to ask.
	Ask func(ctx context.Context, question string, secret bool) (string, error)
}

// Machines are those of a run, this one among them, and how stores are read from it. Others are reached when they are first needed, by
// one connection each. Several jobs may be built at a time.
type Machines struct {
	Reading
	mu      sync.Mutex
	local   *local.Host
	agent   agent.Options
	ssh     ssh.Options
	env     Environment
	opened  []io.Closer // stores that are looked at
	remote  map[ssh.Target]*agent.Host
	tunnels map[ssh.Target]*ssh.Machine
}

// NewMachines gives the machines that are reached as r tells, of which nothing is to be complained. It must be closed.
func NewMachines(r Reach, e Environment) *Machines {
	compression, _ := r.compression() // which was checked
	m := &Machines{local: local.New(e.Log), env: e, remote: make(map[ssh.Target]*agent.Host),
		tunnels: make(map[ssh.Target]*ssh.Machine)}
	m.agent = agent.Options{Log: e.Log, Version: e.Version, Sudo: r.Sudo, Channels: max(r.Channels, 1), Compression: compression,
		Agents: r.Agents, ResumeWindow: r.ResumeWindow}
	if r.Command != defaultCommand {
		m.agent.Command = r.Command
	}
	m.agent.Bring = m.agent.Command == "" && cmp.Or(r.Agent, autoAgent) == autoAgent
	m.ssh = r.SSH(e)
	return m
}

// SSH tells how SSH is to reach machines.
func (r Reach) SSH(e Environment) ssh.Options {
	return ssh.Options{Options: r.Options, Program: r.Program, Log: e.Log, Level: slog.LevelDebug, Ask: e.Ask}
}

// At gives the machine of a Local or a Machine, and the path there.
func (m *Machines) At(p Place) (h host.Trees, path string) {
	switch p := p.(type) {
	case Local:
		return m.local, p.Path
	case Machine:
		m.mu.Lock()
		defer m.mu.Unlock()
		r, ok := m.remote[p.Target]
		if !ok {
			r = agent.New(ssh.New(p.Target, m.ssh), m.agent)
			m.remote[p.Target] = r
		}
		return r, p.Path
	}
	panic("internal error: " + p.String() + " is no directory of a machine")
}

// through gives how a machine is reached that is only passed through. The run ends with the connection.
func (m *Machines) through(t ssh.Target) *ssh.Machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.tunnels[t]
	if !ok {
		s = ssh.New(t, m.ssh)
		m.tunnels[t] = s
	}
	return s
}

// Close ends the connections.
func (m *Machines) Close() {
	for _, s := range m.opened {
		_ = s.Close() // nothing is under way any more
	}
	for _, r := range m.remote {
		_ = r.Close() // nothing is under way any more
	}
	for _, s := range m.tunnels {
		_ = s.Close()
	}
}
