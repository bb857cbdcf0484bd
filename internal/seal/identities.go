package seal

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// Identities are secret keys.
type Identities []age.Identity

// ErrNoIdentity says that no secret key was given, ErrWrongIdentity that none of those given is one of the recipients'.
var (
	ErrNoIdentity    = errors.New("it is encrypted, and no secret key was given")
	ErrWrongIdentity = errors.New("it is encrypted for other keys than those given")
)

// Decrypt decrypts a file that was encrypted for one of the identities.
func (i Identities) Decrypt(r io.Reader) (io.Reader, error) {
	if len(i) == 0 {
		return nil, ErrNoIdentity
	}
	plain, err := age.Decrypt(r, i...)
	return plain, wordMismatch(err)
}

func wordMismatch(err error) error {
	if errors.As(err, new(*age.NoIdentityMatchError)) {
		return ErrWrongIdentity
	}
	return err
}

// public gives the public key of a secret one, as Recipient.public does.
func public(i age.Identity) string {
	switch i := i.(type) {
	case *age.X25519Identity:
		return i.Recipient().String()
	case *age.HybridIdentity:
		return i.Recipient().String()
	case sshIdentity:
		return i.public
	}
	return ""
}

// Matching gives the recipients that a secret key belongs to.
func (r Recipients) Matching(ids Identities) (matching Recipients) {
	for _, one := range r {
		for _, i := range ids {
			if public(i) == one.public() {
				matching = append(matching, one)
				break
			}
		}
	}
	return matching
}

// A Prompt is how secret keys and passphrases get in.
type Prompt struct {
	Ask   func(ctx context.Context, question string, secret bool) (string, error) // nil without a terminal
	Input io.Reader                                                               // what Typed stands for; nil: it is asked for
}

// Typed stands for a secret key that is typed, in place of the name of its file.
const Typed = "-"

// ReadIdentities reads secret keys: files of age, with a passphrase or without, private keys of SSH, and what is typed.
func (p Prompt) ReadIdentities(ctx context.Context, names ...string) (all Identities, err error) {
	for _, name := range names {
		var some Identities
		if name == Typed {
			some, err = p.typed(ctx)
		} else {
			some, err = p.readFile(ctx, name)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func (p Prompt) readFile(ctx context.Context, name string) (Identities, error) {
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.Newf(fmt.Errorf("the file %s of a secret key does not exist", name),
			"is the USB stick mounted? -i - lets you type the paper key")
	}
	if err != nil {
		return nil, fmt.Errorf("reading a secret key: %w", err)
	}
	defer file.Close()
	if err := checkSecrecy(file); err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(file, longestFile))
	if err != nil {
		return nil, fmt.Errorf("reading a secret key: %w", err)
	}
	ids, err := p.parse(ctx, name, content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return ids, nil
}

// withoutModes are filesystems of USB sticks and of networks, on which chmod changes nothing: linux/magic.h.
var withoutModes = map[int64]bool{unix.MSDOS_SUPER_MAGIC: true, unix.EXFAT_SUPER_MAGIC: true, unix.ISOFS_SUPER_MAGIC: true,
	unix.SMB2_SUPER_MAGIC: true, unix.CIFS_SUPER_MAGIC: true, unix.FUSE_SUPER_MAGIC: true, 0x7366746e: true /* ntfs3 */}

// checkSecrecy refuses what other users can read, as ssh does.
func checkSecrecy(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return hint.New(fmt.Errorf("%s is a directory, and no secret key", file.Name()), "name the file of the key")
	}
	var fs unix.Statfs_t
	if !info.Mode().IsRegular() || info.Mode()&0o077 == 0 || unix.Fstatfs(int(file.Fd()), &fs) == nil && withoutModes[int64(fs.Type)] {
		return nil
	}
	return hint.New(fmt.Errorf("%s is a secret key, and other users can read it", file.Name()), "chmod 600 "+file.Name())
}

// parse reads secret keys from the content of a file.
func (p Prompt) parse(ctx context.Context, name string, content []byte) (Identities, error) {
	trimmed := bytes.TrimSpace(content)
	switch {
	case bytes.HasPrefix(trimmed, []byte(armor.Header)):
		return p.decryptKeys(ctx, name, armor.NewReader(bytes.NewReader(trimmed)))
	case bytes.HasPrefix(content, []byte(intro)):
		return p.decryptKeys(ctx, name, bytes.NewReader(content))
	case bytes.HasPrefix(trimmed, []byte("-----BEGIN ")):
		return p.parseSSH(ctx, name, trimmed)
	}
	return parseKeys(bytes.NewReader(content))
}

// parseKeys reads secret keys of age, one a line.
func parseKeys(r io.Reader) (all Identities, err error) {
	lines := bufio.NewScanner(r)
	for number := 1; lines.Scan(); number++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		one, err := ParseKey(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		all = append(all, one)
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, hint.New(errors.New("there is no secret key in it"), "it begins with AGE-SECRET-KEY-1, and `btrfs-backup key new` makes one")
	}
	return all, nil
}

// attempts is how often a passphrase can be typed.
const attempts = 3

// unlock asks for the passphrase of a key until try takes it.
func (p Prompt) unlock(ctx context.Context, name string, try func(passphrase string) (right bool, err error)) error {
	if p.Ask == nil {
		return hint.New(errors.New("it has a passphrase, and there is no terminal to ask for it"),
			"give a key without one, or start this on a terminal")
	}
	question := fmt.Sprintf("Passphrase of %s:", name)
	for range attempts {
		passphrase, err := p.Ask(ctx, question, true)
		if errors.Is(err, io.EOF) {
			return errors.New("its passphrase was not typed")
		}
		if err != nil {
			return err
		}
		if right, err := try(passphrase); right || err != nil {
			return err
		}
		question = fmt.Sprintf("That was wrong. Passphrase of %s:", name)
	}
	return errors.New("the passphrase is wrong")
}

// decryptKeys reads a file of keys that is encrypted with a passphrase.
func (p Prompt) decryptKeys(ctx context.Context, name string, encrypted io.Reader) (Identities, error) {
	plain, err := age.Decrypt(encrypted, locked{ctx, p, name})
	if err != nil {
		return nil, err
	}
	return parseKeys(io.LimitReader(plain, longestFile))
}

// locked is the passphrase of a file of keys, which is asked for when it is needed.
type locked struct {
	ctx  context.Context
	p    Prompt
	name string
}

func (l locked) Unwrap(stanzas []*age.Stanza) (fileKey []byte, err error) {
	if len(stanzas) != 1 || stanzas[0].Type != "scrypt" {
		return nil, hint.New(errors.New("it is encrypted for a key, and not with a passphrase"), "decrypt it first, with age -d")
	}
	return fileKey, l.p.unlock(l.ctx, l.name, func(passphrase string) (bool, error) {
		if passphrase == "" { // which age refuses
			return false, nil
		}
		i, err := age.NewScryptIdentity(passphrase)
		if err != nil {
			return false, err
		}
		fileKey, err = i.Unwrap(stanzas)
		if errors.Is(err, age.ErrIncorrectIdentity) {
			return false, nil
		}
		return err == nil, err
	})
}

// sshIdentity is a private key of SSH.
type sshIdentity struct {
	age.Identity
	public string
}

func (p Prompt) parseSSH(ctx context.Context, name string, content []byte) (Identities, error) {
	key, err := ssh.ParseRawPrivateKey(content)
	if errors.As(err, new(*ssh.PassphraseMissingError)) {
		err = p.unlock(ctx, name, func(passphrase string) (bool, error) {
			var err error
			key, err = ssh.ParseRawPrivateKeyWithPassphrase(content, []byte(passphrase))
			return err == nil, nil // the only other cause would be damage
		})
		if err != nil {
			return nil, err
		}
	}
	if err != nil {
		return nil, fmt.Errorf("it is no private key that can be used: %w", err)
	}
	var i age.Identity
	switch k := key.(type) {
	case *ed25519.PrivateKey:
		i, err = agessh.NewEd25519Identity(*k)
	case ed25519.PrivateKey: // of PKCS#8
		i, err = agessh.NewEd25519Identity(k)
	case *rsa.PrivateKey:
		i, err = agessh.NewRSAIdentity(k)
	default:
		err = hint.New(errors.New("keys of SSH of this kind cannot decrypt"), "only ssh-ed25519 and ssh-rsa can")
	}
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, err
	}
	return Identities{sshIdentity{i, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}}, nil
}

// A Key is a pair of keys, as texts.
type Key struct{ Secret, Public string }

// NewKey makes a key of age, of the kind that all versions of it know.
func NewKey() (Key, error) {
	i, err := age.GenerateX25519Identity()
	if err != nil {
		return Key{}, err
	}
	return Key{i.String(), i.Recipient().String()}, nil
}
