package volume

import (
	"context"
	"io"
	"path/filepath"
	"strconv"

	"btrfs-backup/btrfs/sendstream"
	"btrfs-backup/internal/engine"
	"btrfs-backup/internal/progress"
	"btrfs-backup/transport"
)

const program = "btrfs"

// Send runs `btrfs send` and checks its output on the way to w.
func (s *Source) Send(ctx context.Context, t engine.Transfer, f engine.Format, w io.Writer) error {
	argv, err := s.sendCommand(ctx, t, f)
	if err != nil {
		return err
	}
	return s.pipeFrom(ctx, argv, func(r io.Reader) error {
		summary, err := sendstream.Copy(w, r)
		if summary.Restarts > 0 {
			s.Log.Warn("btrfs send was suspended and began again; what it repeated was dropped", "times", summary.Restarts)
		}
		return err
	})
}

// Measure runs `btrfs send --no-data`, which reads no file's content.
func (s *Source) Measure(ctx context.Context, t engine.Transfer, f engine.Format) (progress.Total, error) {
	argv, err := s.sendCommand(ctx, t, f, "--no-data")
	if err != nil {
		return progress.Total{}, err
	}
	total := progress.Total{AtMost: f.Compressed}
	err = s.pipeFrom(ctx, argv, func(r io.Reader) error {
		total.Bytes, err = sendstream.Measure(r)
		return err
	})
	return total, err
}

func (s *Source) sendCommand(ctx context.Context, t engine.Transfer, f engine.Format, options ...string) ([]string, error) {
	own, err := bestFormat(ctx, s.local())
	if err != nil {
		return nil, err
	}
	argv := append([]string{program, "send"}, s.verbosity()...)
	if protocol := min(f.Protocol, own.Protocol, kernelProtocol()); protocol > 1 {
		argv = append(argv, "--proto", strconv.Itoa(protocol))
		if f.Compressed && len(options) == 0 {
			argv = append(argv, "--compressed-data")
		}
	}
	argv = append(argv, options...)
	if t.Parent != nil {
		argv = append(argv, "-p", filepath.Join(s.path, t.Parent.Name))
	}
	return append(argv, filepath.Join(s.path, t.Snapshot.Name)), nil
}

func (f *folder) verbosity() []string {
	if f.Verbose {
		return []string{"-vv"}
	}
	return []string{"-q"}
}

// pipeFrom runs a program whose output is read by read. The program is ended when read fails.
func (s *Source) pipeFrom(ctx context.Context, argv []string, read func(io.Reader) error) error {
	r, w, err := transport.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	p, err := s.local().Start(ctx, transport.Command{Argv: argv, Stdout: w})
	w.Close()
	if err != nil {
		return senderError(err)
	}
	readErr := read(r)
	if readErr == nil {
		return senderError(p.Wait())
	}
	return blame(p, readErr)
}

// blame picks the error to tell after reading failed: a program that failed by itself knows best why its output ends.
func blame(p *transport.Process, readErr error) error {
	if !endedEarly(readErr) {
		p.Kill()
		_ = p.Wait() // it was killed; the reason is readErr
		return readErr
	}
	if err := p.Wait(); err != nil {
		return senderError(err)
	}
	return readErr
}
