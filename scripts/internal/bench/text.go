package main

import "math/rand/v2"

// textFiles makes files of random words and punctuation, which zstd at its fastest shrinks to somewhat less than half.
func textFiles(size int) func(dir string) error {
	return func(dir string) error {
		const n = 4
		text := newProse()
		for i := range n {
			if err := write(fileName(dir, i), text, size); err != nil {
				return err
			}
		}
		return nil
	}
}

// prose is an endless text.
type prose struct {
	random *rand.Rand
	words  []string
	rest   []byte
}

func newProse() *prose {
	p := &prose{random: rand.New(rand.NewPCG(0, 0))}
	for range 5000 {
		word := make([]byte, 2+p.random.IntN(9))
		for i := range word {
			word[i] = "etaoinsrhldcumfpgwybvkxjqz"[min(p.random.IntN(26), p.random.IntN(26))]
		}
		p.words = append(p.words, string(word))
	}
	return p
}

func (p *prose) Read(b []byte) (int, error) {
	for len(p.rest) < len(b) {
		often := p.random.Float64() // few words make up most of a text
		p.rest = append(p.rest, p.words[int(often*often*often*float64(len(p.words)))]...)
		p.rest = append(p.rest, []string{" ", " ", " ", ".", ", ", "(", ") ", "\n", "\n\t", "_"}[p.random.IntN(10)]...)
	}
	n := copy(b, p.rest)
	p.rest = append(p.rest[:0], p.rest[n:]...)
	return n, nil
}
