package store

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/crypto/blake2b"

	"github.com/btrfs-backup/btrfs-backup/lock"
)

// A journal tells which objects of an attempt were stored, or may have been: each is written down before it is sent, since the
// answer may never arrive. It is a file of this machine. If it is lost, the attempt begins anew.
type journal struct {
	mu      sync.Mutex
	file    *os.File
	dir     string
	entries map[string]entry // by the key of the object
}

// entry is a line of a journal. The first one has only Dir and Size, that of parts.
type entry struct {
	Dir    string `json:"dir,omitempty"`
	Key    string `json:"key,omitempty"`
	Plain  []byte `json:"plain,omitempty"` // XXH3 of 128 bits
	Length int64  `json:"length,omitempty"`
	Size   int64  `json:"size"`
	SHA256 []byte `json:"sha256,omitempty"`
}

// line gives the entry as it is written: with a checksum, since what a journal tells is believed.
func (e entry) line() ([]byte, error) {
	text, err := json.Marshal(e)
	return fmt.Appendf(nil, "%016x %s\n", xxh3.Hash(text), text), err
}

func parseEntry(line []byte) (e entry, err error) {
	sum, text, _ := bytes.Cut(line, []byte(" "))
	if string(sum) != fmt.Sprintf("%016x", xxh3.Hash(text)) {
		return e, errors.New("it has another checksum")
	}
	return e, json.Unmarshal(text, &e)
}

// journalPath gives the file for a stream.
func (s *Store) journalPath(key string) string {
	sum := blake2b.Sum256([]byte(key))
	return filepath.Join(s.State, "uploads", s.ID+"-"+hex.EncodeToString(sum[:16]))
}

// openJournal goes on with the attempt of a stream, or begins one in a new directory.
func (s *Store) openJournal(path, source, name string) (*journal, error) {
	j, err := s.readJournal(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Log.Info(fmt.Sprintf("%s: what was stored of %s before is not known: %v", s, name, err))
	}
	if j != nil {
		return j, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the journal of what is stored: %w", err)
	}
	s.tidyJournals(filepath.Dir(path))
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making the journal of what is stored: %w", err)
	}
	j = &journal{file: file, dir: newDir(source, name), entries: make(map[string]entry)}
	return j, j.write(entry{Dir: j.dir, Size: s.partSize()})
}

// readJournal reads one that was made with the same size of parts.
func (s *Store) readJournal(path string) (*journal, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if end := bytes.LastIndexByte(content, '\n') + 1; end < len(content) { // killed while it wrote
		content = content[:end]
		if err := os.Truncate(path, int64(end)); err != nil {
			return nil, lock.Cause(err)
		}
	}
	j := &journal{entries: make(map[string]entry)}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		e, err := parseEntry(lines.Bytes())
		if err != nil {
			return nil, errors.New("its journal is damaged")
		}
		if e.Dir == "" {
			j.entries[e.Key] = e
		} else if j.dir = e.Dir; e.Size != s.partSize() {
			return nil, nil
		}
	}
	if j.dir == "" {
		return nil, nil
	}
	j.file, err = os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	return j, err
}

// tidyJournals removes those of attempts that nobody went on with.
func (s *Store) tidyJournals(dir string) {
	entries, _ := os.ReadDir(dir) // they take little room
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > ResumeWindow {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// ResumeWindow is how long an attempt can be gone on with. After it, what was stored is garbage.
const ResumeWindow = 7 * 24 * time.Hour

func (j *journal) write(e entry) error {
	line, err := e.line()
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.Write(line); err != nil {
		return fmt.Errorf("writing the journal of what is stored: %w", err)
	}
	if e.Key != "" {
		j.entries[e.Key] = e
	}
	return nil
}

func (j *journal) of(key string) (entry, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e, ok := j.entries[key]
	return e, ok
}

func (j *journal) remove() error {
	return cmp.Or(os.Remove(j.file.Name()), j.file.Close())
}

func (s *Store) partSize() int64 { return cmp.Or(s.PartSize, DefaultPartSize) }
