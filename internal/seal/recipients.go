// Package seal encrypts what leaves the machine, and signs what tells of it.
//
// Encryption is age (age-encryption.org/v1): a machine holds the public keys of recipients only, so whoever steals it cannot read what
// it stored. A signature is minisign's (jedisct1.github.io/minisign), by a key of the machine: it tells what this machine wrote from
// what somebody else put there, and lets nobody read anything.
//
// No error holds any part of a secret key.
package seal

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// RecipientsFile is where the recipients of this machine are. They are read from no other place: whoever adds one can read backups.
const RecipientsFile = "/etc/btrfs-backup/recipients"

// A Recipient is a public key.
type Recipient struct {
	Text string // as it was read
	Name string // the comment above it, or what SSH has as a comment; may be empty
	Line int    // in its file
	key  age.Recipient
}

// Recipients are those for whom everything is encrypted.
type Recipients []Recipient

// ReadRecipients reads the public keys in a file that nobody but the user and root can change.
func ReadRecipients(path string) (Recipients, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a pipe that nobody writes to is refused, too
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.New(fmt.Errorf("%s, the file of public keys to encrypt for, does not exist", path),
			"`btrfs-backup key new --output FILE` makes keys, and this file: let FILE be on a USB stick")
	}
	if err != nil {
		return nil, fmt.Errorf("reading the recipients: %w", err)
	}
	defer file.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, hint.New(fmt.Errorf("%s is no file of public keys", path), "name a regular file, with a public key on each line")
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, hint.Newf(fmt.Errorf("%s belongs to another user, who could add a key and read the backups", path),
			"if its keys are yours: chown %d %s", os.Geteuid(), path)
	case st.Mode&0o022 != 0:
		return nil, hint.New(fmt.Errorf("%s can be changed by other users, who could add a key and read the backups", path),
			"look at its keys, and then: chmod go-w "+path)
	}
	all, err := ParseRecipients(io.LimitReader(file, longestFile))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

// longestFile is more than any file of keys has.
const longestFile = 1 << 20

// ParseRecipients reads public keys, one a line: those of age, and of SSH. A line that begins with # names the key in the next line.
func ParseRecipients(r io.Reader) (all Recipients, err error) {
	name := ""
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		text := strings.TrimSpace(lines.Text())
		if comment, ok := strings.CutPrefix(text, "#"); ok || text == "" {
			name = strings.TrimSpace(comment)
			continue
		}
		one, err := parseRecipient(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		one.Line, one.Text = number, text
		if name != "" {
			one.Name = name
		}
		name = ""
		for _, other := range all {
			if other.public() == one.public() {
				return nil, hint.New(fmt.Errorf("line %d: it is the key of line %d again", number, other.Line), "remove one of them")
			}
		}
		all = append(all, one)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return all, all.checkMixture()
}

func parseRecipient(text string) (one Recipient, err error) {
	const forward = "a line is age1..., ssh-ed25519 ... or ssh-rsa ...; `btrfs-backup key new` makes keys"
	switch kind, _, _ := strings.Cut(text, " "); {
	case isSecret(text):
		return one, hint.New(errors.New("this is a SECRET key, which must not be on a machine that is backed up"),
			"take it away, put its public key here, and make a new one if somebody may have read it: btrfs-backup key new")
	case strings.HasPrefix(text, "age1pq1"):
		one.key, err = age.ParseHybridRecipient(text)
	case kind == "ssh-ed25519", kind == "ssh-rsa":
		one.key, err = agessh.ParseRecipient(text)
		if fields := strings.Fields(text); len(fields) > 2 {
			one.Name = strings.Join(fields[2:], " ")
		}
	case strings.HasPrefix(text, "age1") && strings.LastIndexByte(text, '1') > len("age1"):
		err = errors.New("keys of plugins for age, such as those of a YubiKey, cannot be used")
	case strings.HasPrefix(text, "age1"):
		one.key, err = age.ParseX25519Recipient(text)
	case strings.HasPrefix(kind, "ssh-"), strings.HasPrefix(kind, "ecdsa-"), strings.HasPrefix(kind, "sk-"):
		err = fmt.Errorf("keys of SSH of the kind %s cannot encrypt", kind)
	default:
		err = errors.New("it is no public key")
	}
	if err != nil {
		return one, hint.New(err, forward)
	}
	return one, nil
}

// isSecret tells that a line is that of a secret key, of which nothing must be shown.
func isSecret(line string) bool {
	upper := strings.ToUpper(line)
	return strings.HasPrefix(upper, "AGE-SECRET-KEY-") || strings.HasPrefix(upper, "AGE-PLUGIN-") || strings.HasPrefix(upper, "-----BEGIN ")
}

// checkMixture refuses what age does: next to other keys, one that withstands quantum computers would be for nothing.
func (r Recipients) checkMixture() error {
	var hybrid, others []Recipient
	for _, one := range r {
		if _, ok := one.key.(*age.HybridRecipient); ok {
			hybrid = append(hybrid, one)
		} else {
			others = append(others, one)
		}
	}
	if len(hybrid) == 0 || len(others) == 0 {
		return nil
	}
	return hint.New(fmt.Errorf("line %d is a post-quantum key (age1pq1) and line %d is not: one file cannot be encrypted for both",
		hybrid[0].Line, others[0].Line), "use one kind only: `age-keygen -pq` of age 1.3 makes post-quantum keys")
}

// Check refuses to encrypt for too few. With a single key, losing it is losing the backups, so one is enough only if the user says so.
func (r Recipients) Check(one bool) error {
	switch {
	case len(r) == 0:
		return hint.New(errors.New("there is no public key to encrypt for"), "`btrfs-backup key new` makes keys")
	case len(r) == 1 && !one:
		return hint.New(errors.New("there is only one public key to encrypt for: if its secret key is lost, the backups are lost"),
			"add a second one: btrfs-backup key new --add; or accept that: --one-recipient")
	}
	return nil
}

// public gives what identifies a key: its text without the comment that SSH has.
func (r Recipient) public() string {
	fields := strings.Fields(r.Text)
	return strings.Join(fields[:min(2, len(fields))], " ")
}

// String names a recipient.
func (r Recipient) String() string {
	if r.Name != "" {
		return r.Name
	}
	const enough = 20
	text := r.public()
	return text[:min(enough, len(text))] + "..."
}

// Texts gives the public keys as they were read.
func (r Recipients) Texts() []string {
	texts := make([]string, len(r))
	for i, one := range r {
		texts[i] = one.Text
	}
	return texts
}

func (r Recipients) keys() []age.Recipient {
	keys := make([]age.Recipient, len(r))
	for i, one := range r {
		keys[i] = one.key
	}
	return keys
}

// Encrypt encrypts what is written to it. Its Close ends the encrypted file, and leaves w open.
func (r Recipients) Encrypt(w io.Writer) (io.WriteCloser, error) { return age.Encrypt(w, r.keys()...) }

// Seal encrypts a small content.
func (r Recipients) Seal(content []byte) ([]byte, error) {
	var sealed bytes.Buffer
	w, err := r.Encrypt(&sealed)
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	return sealed.Bytes(), nil
}
