package verify

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"

	"github.com/btrfs-backup/btrfs-backup/internal/manifest"
)

// ManifestOptions tell what of two manifests is compared.
type ManifestOptions struct {
	NoRootTime bool // leave out the time of the root: btrfs send may lose it (linux/fs/btrfs/send.c: SEND_MAX_DIR_UTIMES_CACHE_SIZE)
	// Unread tells that a file was not read, on either side: that is told elsewhere.
	Unread func(path string) bool
}

// Manifests compares two trees by their manifests, and tells found of each difference, in the order of manifest.Compare. The digest is
// that of all that was to be, but for which names are those of one file.
func Manifests(ctx context.Context, want, got io.ReadSeeker, o ManifestOptions, found func(Difference)) (v Verified, digest manifest.Digest, err error) {
	if err := rewind(want, got); err != nil {
		return v, digest, err
	}
	linked, _, err := preview(ctx, want, func(string) bool { return true })
	if err == nil { // a damaged one is found before anything is told
		err = eachEntry(ctx, got, func(manifest.Entry) error { return nil })
	}
	if err == nil {
		err = rewind(want, got)
	}
	if err != nil {
		return v, digest, err
	}
	copied, err := manifest.NewReader(got)
	if err != nil {
		return v, digest, err
	}
	defer copied.Close()
	p := pairing{ManifestOptions: o, linkage: newLinkage(linked), copied: copied, sum: sha256.New()}
	p.found = func(d Difference) {
		v.Differences++
		found(d)
	}
	if err := p.advance(); err != nil {
		return v, digest, err
	}
	err = eachEntry(ctx, want, func(e manifest.Entry) error {
		if e.Type != manifest.Directory {
			v.Files++
		}
		return p.pair(&e)
	})
	if err == nil {
		err = p.unexpected(func(string) bool { return true })
	}
	return v, manifest.Digest(p.sum.Sum(nil)), err
}

func rewind(files ...io.Seeker) error {
	for _, f := range files {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return nil
}

// A pairing goes through two manifests side by side.
type pairing struct {
	ManifestOptions
	linkage
	copied *manifest.Reader
	next   manifest.Entry // of those
	more   bool           // there is a next one
	found  func(Difference)
	sum    hash.Hash
	line   []byte
}

func (p *pairing) advance() (err error) {
	p.next, err = p.copied.Next()
	p.more = err == nil
	if err == io.EOF {
		err = nil
	}
	return err
}

// unexpected tells of entries that only the copy has, as long as their paths are such.
func (p *pairing) unexpected(is func(path string) bool) error {
	for p.more && is(p.next.Path) {
		p.found(Difference{Path: p.next.Path, Kind: Unexpected})
		if err := p.advance(); err != nil {
			return err
		}
	}
	return nil
}

// pair compares an entry with what the copy has there.
func (p *pairing) pair(want *manifest.Entry) error {
	p.line = want.AppendTo(p.line[:0])
	p.sum.Write(p.line)
	if err := p.unexpected(func(path string) bool { return manifest.Compare(path, want.Path) < 0 }); err != nil {
		return err
	}
	if !p.more || p.next.Path != want.Path {
		p.found(Difference{Path: want.Path, Kind: Missing})
		return nil
	}
	got := p.next
	if err := p.advance(); err != nil {
		return err
	}
	f := checkedFile{path: want.Path}
	p.compare(&f, want, &got)
	for _, d := range f.differences {
		p.found(d)
	}
	return nil
}

func (p *pairing) compare(f *checkedFile, want, got *manifest.Entry) {
	if want.Type != got.Type {
		f.add(OtherType, string(want.Type), string(got.Type))
		return
	}
	if p.NoRootTime && want.Path == "." {
		got.ModTime = want.ModTime
	}
	f.compareStatus(want, got)
	p.compareLinks(f, want, got)
	f.compareOwner(want, got)
	if p.Unread(want.Path) {
		return
	}
	if want.Target != got.Target {
		f.add(OtherTarget, want.Target, got.Target)
	}
	if want.Xattrs != got.Xattrs {
		f.add(OtherXattrs, digestText(want.Xattrs), digestText(got.Xattrs))
	}
	if want.Size == got.Size && want.SHA256 != got.SHA256 {
		f.add(OtherContent, digestText(want.SHA256), digestText(got.SHA256))
	}
}
