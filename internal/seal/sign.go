package seal

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"btrfs-backup/lock"

	"golang.org/x/crypto/blake2b"
)

// A Signer signs what this machine stores.
type Signer struct{ key ed25519.PrivateKey }

// LoadSigner reads the key of this machine from a file. It makes one if there is none, on disk too.
func LoadSigner(path string) (Signer, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeSigner(path)
	}
	if err != nil {
		return Signer{}, fmt.Errorf("reading the key that signs: %w", err)
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(content)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return Signer{}, fmt.Errorf("%s is no key that signs", path)
	}
	return Signer{ed25519.NewKeyFromSeed(seed)}, nil
}

func makeSigner(path string) (Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Signer{}, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return Signer{}, fmt.Errorf("making the key that signs: %w", err)
	}
	if err := lock.WriteFile(path, []byte(base64.StdEncoding.EncodeToString(key.Seed())+"\n")); err != nil {
		return Signer{}, fmt.Errorf("making the key that signs: %w", err)
	}
	return Signer{key}, nil
}

// minisign's formats: jedisct1.github.io/minisign/#signature-format
const (
	algKey     = "Ed"
	algSigned  = "ED" // of the BLAKE2b-512 of the content
	keyIDSize  = 8
	publicSize = len(algKey) + keyIDSize + ed25519.PublicKeySize
	signedSize = len(algSigned) + keyIDSize + ed25519.SignatureSize
)

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
	key, err := base64.StdEncoding.DecodeString(publicKey)
	if err != nil || len(key) != publicSize || string(key[:len(algKey)]) != algKey {
		return fmt.Errorf("%q is no key that verifies", publicKey)
	}
	lines := strings.Split(string(signature), "\n")
	if len(lines) < 4 {
		return ErrBadSignature
	}
	comment, commented := strings.CutPrefix(lines[2], "trusted comment: ")
	signed, err := base64.StdEncoding.DecodeString(lines[1])
	global, globalErr := base64.StdEncoding.DecodeString(lines[3])
	if err != nil || globalErr != nil || !commented || len(signed) != signedSize || string(signed[:len(algSigned)]) != algSigned {
		return ErrBadSignature
	}
	public, hash, raw := ed25519.PublicKey(key[len(algKey)+keyIDSize:]), blake2b.Sum512(content), signed[len(algSigned)+keyIDSize:]
	if !ed25519.Verify(public, hash[:], raw) || !ed25519.Verify(public, append(bytes.Clone(raw), comment...), global) {
		return ErrBadSignature
	}
	return nil
}
