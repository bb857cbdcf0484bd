package seal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// A KnownSigner is a public key whose signatures count.
type KnownSigner struct {
	Key     string // as Signer.PublicKey gives it
	Comment string // whose it is
}

// Signers are the public keys whose signatures count on this machine: its own, and those in a file.
type Signers struct {
	path string
	own  []KnownSigner
	read []KnownSigner
	more []KnownSigner // for once
}

// ReadSigners reads the keys in a file, a line each: KEY COMMENT. Lines that begin with # do not count. Without the file there are none
// but those of this machine, which are given.
func ReadSigners(path string, own ...Signer) (*Signers, error) {
	s := &Signers{path: path}
	for _, one := range own {
		s.own = append(s.own, KnownSigner{one.PublicKey(), "this machine"})
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the known signers: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for number := 1; lines.Scan(); number++ {
		key, comment, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if key == "" || strings.HasPrefix(key, "#") {
			continue
		}
		if _, _, err := parsePublicKey(key); err != nil {
			return nil, hint.New(fmt.Errorf("%s, line %d: %w", path, number, err), "a line is KEY COMMENT, and `btrfs-backup key list` shows the key of a machine")
		}
		s.read = append(s.read, KnownSigner{key, strings.TrimSpace(comment)})
	}
	return s, lines.Err()
}

// SignersIn reads whose signatures count by the state of a machine, and its own key, if it has one that this user may read.
func SignersIn(state string) (s *Signers, own Signer, err error) {
	var known []Signer
	own, err = ReadSigner(filepath.Join(state, SigningKeyFile))
	if err == nil {
		known = append(known, own)
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return nil, own, err
	}
	s, err = ReadSigners(filepath.Join(state, SignersFile), known...)
	return s, own, err
}

// All gives the known signers, those of this machine first.
func (s *Signers) All() []KnownSigner { return slices.Concat(s.own, s.read, s.more) }

// Trusts tells that the signatures of a key count.
func (s *Signers) Trusts(key string) bool {
	return isAmong(s.All(), key)
}

func isAmong(known []KnownSigner, key string) bool {
	return slices.ContainsFunc(known, func(k KnownSigner) bool { return k.Key == key })
}

// Count lets the signatures of a key count, without recording it.
func (s *Signers) Count(key string) error {
	if _, _, err := parsePublicKey(key); err != nil {
		return err
	}
	s.more = append(s.more, KnownSigner{Key: key})
	return nil
}

// Add adds a key, on disk too. One that is known stays as it is.
func (s *Signers) Add(key, comment string) error {
	if _, _, err := parsePublicKey(key); err != nil {
		return err
	}
	if isAmong(slices.Concat(s.own, s.read), key) {
		return nil
	}
	added := append(slices.Clone(s.read), KnownSigner{key, strings.Join(strings.Fields(comment), " ")})
	var content bytes.Buffer
	content.WriteString("# Whose signatures count on this machine, beside its own. Whoever can write here can pass off backups as yours.\n")
	for _, k := range added {
		content.WriteString(strings.TrimSpace(k.Key+" "+k.Comment) + "\n")
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o700); err != nil {
		return fmt.Errorf("recording a signer: %w", err)
	}
	if err := renameio.WriteFile(s.path, content.Bytes(), 0o600); err != nil {
		return fmt.Errorf("recording a signer: %w", err)
	}
	s.read = added
	return nil
}
