package chain

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/btrfs-backup/btrfs-backup/btrfs/sendstream"
	"github.com/btrfs-backup/btrfs-backup/internal/hint"
	"github.com/btrfs-backup/btrfs-backup/transport"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// An Input gives streams: usually one, or several one behind the other. They may be compressed by zstd or gzip.
type Input struct {
	title string
	open  func(ctx context.Context) (io.ReadCloser, error)
	bytes func() int64 // how many it has, at most one compressed part of the streams; nil: unknown

	known  *Known          // what is known of its only stream; nil: it must be read for that
	once   bool            // it can be read only once
	ctx    context.Context // of all readings: one may go on behind a stream
	opened *reading        // behind a stream
}

// File is an input that is a file.
func File(path string) *Input {
	return &Input{title: path, open: func(context.Context) (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		if info, err := f.Stat(); err == nil && info.IsDir() {
			f.Close()
			return nil, hint.New(&os.PathError{Op: "reading", Path: path, Err: unix.EISDIR}, "name the files of the streams")
		}
		return f, nil
	}, bytes: func() int64 {
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			return 0
		}
		return info.Size()
	}}
}

// Stdin is standard input.
func Stdin(r io.Reader) *Input {
	return &Input{title: "standard input", once: true, open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(r), nil }}
}

// Placeholder stands for the name of a snapshot in a Command.
const Placeholder = "{snapshot}"

// Command is what a shell command writes, which is told the name that it is to give as $BTRFS_BACKUP_SNAPSHOT, as the commands are to
// which backups go.
func Command(line, name string, log *slog.Logger) *Input {
	line = strings.ReplaceAll(line, Placeholder, "${BTRFS_BACKUP_SNAPSHOT}")
	return &Input{title: name, open: func(ctx context.Context) (io.ReadCloser, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		defer w.Close()
		p, err := transport.Local{Log: log, Level: slog.LevelInfo}.Start(ctx, transport.Command{
			Argv: []string{"sh", "-c", line}, Name: "the command", Stdout: w, Env: []string{"BTRFS_BACKUP_SNAPSHOT=" + name}})
		if err != nil {
			r.Close()
			return nil, err
		}
		return &output{Reader: r, pipe: r, process: p}, nil
	}}
}

// output is what a command writes. Its end is one only if the command succeeded.
type output struct {
	io.Reader
	pipe    *os.File
	process *transport.Process
	waited  bool
}

func (o *output) Read(p []byte) (int, error) {
	n, err := o.Reader.Read(p)
	if errors.Is(err, io.EOF) && !o.waited {
		o.waited = true
		if failed := o.process.Wait(); failed != nil {
			return n, failed
		}
	}
	return n, err
}

func (o *output) Close() error {
	if !o.waited { // no more is wanted
		o.waited = true
		o.process.Kill()
		_ = o.process.Wait() // it was killed
	}
	return o.pipe.Close()
}

// reading is an input that is being read.
type reading struct {
	*sendstream.Splitter
	at    int // the stream
	close func()
}

// read begins to read an input, and the first stream in it.
func (in *Input) read() (*reading, error) {
	raw, err := in.open(in.ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(in.ctx, func() { raw.Close() })
	r := &reading{close: func() {
		stop()
		raw.Close()
	}}
	plain, err := in.plain(raw, r)
	if err != nil {
		r.close()
		return nil, err
	}
	r.Splitter = sendstream.NewSplitter(plain)
	if more, err := r.Next(); err != nil || !more {
		r.close()
		return nil, in.damaged(errors.Join(err, map[bool]error{false: sendstream.ErrEmpty}[more || err != nil]))
	}
	return r, nil
}

// plain undoes a compression.
func (in *Input) plain(raw io.Reader, r *reading) (io.Reader, error) {
	buffered := bufio.NewReader(raw)
	magic, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, in.damaged(err)
	}
	switch {
	case string(magic) == "\x28\xb5\x2f\xfd": // RFC 8878
		const most = 2 << 30 // zstd --long=31
		d, err := zstd.NewReader(buffered, zstd.WithDecoderMaxWindow(most), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, in.damaged(err)
		}
		closeRaw := r.close
		r.close = func() {
			closeRaw()
			d.Close()
		}
		return d, nil
	case strings.HasPrefix(string(magic), "\x1f\x8b"): // RFC 1952
		d, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, in.damaged(err)
		}
		return d, nil
	}
	return buffered, nil
}

// damaged explains an error about what was read. It is final: what is read once more is the same.
func (in *Input) damaged(err error) error {
	var exit *transport.ExitError
	switch {
	case errors.As(err, &exit):
		return fmt.Errorf("%s: %w", in.title, err)
	case errors.Is(err, sendstream.ErrEmpty):
		return hint.New(fmt.Errorf("%s: it is empty", in.title), "was it stored? Another copy of it would do")
	case errors.Is(err, sendstream.ErrTruncated), errors.Is(err, io.ErrUnexpectedEOF):
		return hint.New(fmt.Errorf("%s: it is incomplete: it ends in the middle", in.title), "only a part of it was stored: another copy of it would do; nothing was made of it")
	case errors.Is(err, sendstream.ErrCorrupt):
		return hint.New(fmt.Errorf("%s: %s", in.title, err), "it was altered since it was made, or is no send stream: another copy of it would do")
	case errors.Is(err, sendstream.ErrUnsupported):
		return hint.New(fmt.Errorf("%s: %s", in.title, err), "install a newer btrfs-backup")
	}
	return fmt.Errorf("%s: %w", in.title, err)
}

// streamAt begins to read a stream of an input.
func (in *Input) streamAt(index int) (*reading, error) {
	r := in.opened
	if in.opened = nil; r != nil && r.at > index {
		r.close()
		r = nil
	}
	if r == nil && in.once {
		return nil, fmt.Errorf("%s can be read only once", in.title)
	}
	if r == nil {
		var err error
		if r, err = in.read(); err != nil {
			return nil, err
		}
	}
	for r.at < index {
		more, err := r.Next()
		if err == nil && !more {
			err = fmt.Errorf("%s: it has changed: it holds %d streams, not %d", in.title, r.at+1, index+1)
		}
		if err != nil {
			r.close()
			return nil, in.damaged(err)
		}
		r.at++
	}
	return r, nil
}

// headOf gives what a stream says of itself. What is read behind it is kept of an input that can be read only once.
func (in *Input) headOf(r *reading) (l Link, err error) {
	head, err := r.Head()
	if err != nil {
		return l, in.damaged(err)
	}
	return Link{Name: head.Name, UUID: head.UUID, TransID: head.TransID, Parent: head.ParentUUID, ParentTransID: head.ParentTransID,
		Protocol: head.Protocol, input: in, index: r.at}, nil
}

// first gives the first stream.
func (in *Input) first(ctx context.Context) (Link, error) {
	in.ctx = ctx
	if in.known != nil {
		return in.known.Link, nil
	}
	r, err := in.read()
	if err != nil {
		return Link{}, err
	}
	l, err := in.headOf(r)
	if in.once && err == nil {
		in.opened = r
		return l, nil
	}
	r.close()
	return l, err
}

// further gives the streams behind the first one, for which all of the input is read.
func (in *Input) further() (links []Link, err error) {
	if in.once || in.known != nil {
		return nil, nil
	}
	r, err := in.read()
	if err != nil {
		return nil, err
	}
	defer r.close()
	for {
		more, err := r.Next()
		if err != nil || !more {
			return links, err
		}
		r.at++
		l, err := in.headOf(r)
		if err == nil {
			err = l.check()
		}
		if err != nil {
			return links, err
		}
		links = append(links, l)
	}
}
