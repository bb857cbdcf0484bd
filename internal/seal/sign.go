package seal

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/blake2b"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// A Signer signs what this machine stores.
type Signer struct{ key ed25519.PrivateKey }

// Files of what a machine knows, in the directory of its state.
const (
	SigningKeyFile = "signing.key"
	SignersFile    = "signers"
)

// LoadSigner reads the key of this machine from a file. It makes one if there is none, on disk too.
func LoadSigner(path string) (Signer, error) {
	s, err := ReadSigner(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return Signer{}, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Signer{}, fmt.Errorf("making the key that signs: %w", err)
	}
	err = WriteNew(path, []byte(base64.StdEncoding.EncodeToString(key.Seed())+"\n"), 0o600)
	if errors.Is(err, fs.ErrExist) { // another run was faster
		return ReadSigner(path)
	}
	if err != nil {
		return Signer{}, fmt.Errorf("making the key that signs: %w", err)
	}
	return Signer{key}, nil
}

// ReadSigner reads the key of this machine, and fails with fs.ErrNotExist if there is none.
func ReadSigner(path string) (Signer, error) {
	file, err := os.Open(path)
	if err != nil {
		return Signer{}, fmt.Errorf("reading the key that signs: %w", err)
	}
	defer file.Close()
	if err := checkSecrecy(file); err != nil {
		return Signer{}, err
	}
	content, err := io.ReadAll(io.LimitReader(file, longestFile))
	if err != nil {
		return Signer{}, fmt.Errorf("reading the key that signs: %w", err)
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(content)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return Signer{}, hint.New(fmt.Errorf("%s, the key that signs what this machine stores, is damaged", path),
			"put it back from a backup; or delete it: a new one is made, and the old one still counts if it is among the known signers")
	}
	return Signer{ed25519.NewKeyFromSeed(seed)}, nil
}

// minisign's formats: jedisct1.github.io/minisign/#signature-format
const (
	algKey     = "Ed"
	algSigned  = "ED" // of the BLAKE2b-512 of the content
	keyIDSize  = 8
	publicSize = len(algKey) + keyIDSize + ed25519.PublicKeySize
	signedSize = len(algSigned) + keyIDSize + ed25519.SignatureSize
)

// IsZero tells that there is no key.
func (s Signer) IsZero() bool { return s.key == nil }

// PublicKey gives the public key, as `minisign -P` takes it.
func (s Signer) PublicKey() string {
	public := s.key.Public().(ed25519.PublicKey)
	return base64.StdEncoding.EncodeToString(bytes.Join([][]byte{[]byte(algKey), keyID(public), public}, nil))
}

// keyID is any number that tells keys apart.
func keyID(public ed25519.PublicKey) []byte {
	sum := blake2b.Sum256(public)
	return sum[:keyIDSize]
}

// Sign gives a signature of the content, as a file of minisign. The comment is signed, too; it is one line.
func (s Signer) Sign(content []byte, comment string) []byte {
	hash := blake2b.Sum512(content)
	signature := ed25519.Sign(s.key, hash[:])
	signed := bytes.Join([][]byte{[]byte(algSigned), keyID(s.key.Public().(ed25519.PublicKey)), signature}, nil)
	global := ed25519.Sign(s.key, append(bytes.Clone(signature), comment...))
	return fmt.Appendf(nil, "untrusted comment: signature of btrfs-backup\n%s\ntrusted comment: %s\n%s\n",
		base64.StdEncoding.EncodeToString(signed), comment, base64.StdEncoding.EncodeToString(global))
}

// ErrBadSignature says that a content was not signed by a key.
var ErrBadSignature = errors.New("its signature is wrong")

// Verify fails unless the signature is one of the content by the public key, which is as PublicKey gives it.
func Verify(publicKey string, content, signature []byte) error {
	_, public, err := parsePublicKey(publicKey)
	if err != nil {
		return err
	}
	lines := strings.Split(string(signature), "\n")
	if len(lines) < 4 {
		return ErrBadSignature
	}
	comment, commented := strings.CutPrefix(lines[2], "trusted comment: ")
	signed, err := base64.StdEncoding.Strict().DecodeString(lines[1])
	global, globalErr := base64.StdEncoding.Strict().DecodeString(lines[3])
	if err != nil || globalErr != nil || !commented || len(signed) != signedSize || string(signed[:len(algSigned)]) != algSigned {
		return ErrBadSignature
	}
	hash, raw := blake2b.Sum512(content), signed[len(algSigned)+keyIDSize:]
	if !ed25519.Verify(public, hash[:], raw) || !ed25519.Verify(public, append(bytes.Clone(raw), comment...), global) {
		return ErrBadSignature
	}
	return nil
}

// parsePublicKey reads what PublicKey gives.
func parsePublicKey(text string) (id []byte, public ed25519.PublicKey, err error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != publicSize || string(key[:len(algKey)]) != algKey {
		return nil, nil, fmt.Errorf("%q is no public key that verifies", text)
	}
	return key[len(algKey) : len(algKey)+keyIDSize], ed25519.PublicKey(key[len(algKey)+keyIDSize:]), nil
}

// Secret gives one of this machine for a purpose, from which the key cannot be told.
func (s Signer) Secret(purpose string) []byte {
	h, err := blake2b.New256(s.key.Seed())
	if err != nil {
		panic("internal error: a seed of more than 64 bytes")
	}
	h.Write([]byte(purpose))
	return h.Sum(nil)
}
