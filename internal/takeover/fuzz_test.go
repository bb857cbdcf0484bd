package takeover

import (
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// FuzzWhateverIsReadBecomesTOMLOrAnError takes a text over from each program.
func FuzzWhateverIsReadBecomesTOMLOrAnError(f *testing.F) {
	f.Add(twoPools)
	f.Add(firstVersion)
	f.Add("jobs:\n- rsync_src: me@nas:/a/\n  rsync_dst: /b\n  rsync_options: \"-avz --exclude 'a b' -f '- x'\"\n  snapshots: {daily: 7}\n")
	f.Add("destination = '/b'\n[[sources]]\npath = '/a'\n[[backup_hooks]]\npre = ['a', 'b']\npost = 'c'\n")
	f.Add("[/mnt/disk/system]\nhourly = 24 * 7\ndaily: always\n")
	f.Add("/mnt/disk/system/latest")
	f.Add("app_cfg: {intervals: {often: 0}}\njobs:\n- rsync_src: /a/\n  rsync_dst: /b\n  snapshots: {often: 7}\n")
	f.Add("a: 1\rb: 2\rc: 3") // three lines to YAML
	f.Fuzz(func(t *testing.T, text string) {
		for name, take := range map[string]func(string, []byte) (Result, error){
			"btrbk": Btrbk, "vhpi": VeryHungryPi, "piserver": PiServer,
			"rotation": func(name string, content []byte) (Result, error) {
				return SystemBackup{Args: []string{"/mnt/disk/system/latest"}, Rotation: []File{{name, content}}}.TakeOver()
			},
			"words": func(_ string, content []byte) (Result, error) {
				word := string(content)
				return SystemBackup{Args: []string{word, word}, Mount: word, Crypto: word, Tunnel: word, Exclude: []string{word}}.TakeOver()
			},
		} {
			r, err := take("a\nname", []byte(text))
			if err != nil {
				continue
			}
			var read map[string]any
			if err := toml.Unmarshal([]byte(r.Text), &read); err != nil {
				t.Errorf("%s: %v in\n%s", name, err, r.Text)
			}
		}
	})
}
