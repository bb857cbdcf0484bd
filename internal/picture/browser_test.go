package picture

import (
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

// measuring is put into a page that may run it: how wide it is, how high, how long it took until it was laid out, what the keyboard reaches.
const measuring = `<script>addEventListener("load", () => { const d = document, e = d.documentElement;
parent.document.title = ["measured", e.scrollWidth > innerWidth ? "too wide" : "fits", innerWidth, e.scrollHeight, Math.round(performance.now()),
  [...d.querySelectorAll("a,summary")].filter(x => x.tabIndex === 0).length].join(" "); })</script>`

var policyOfFile = regexp.MustCompile(`<meta http-equiv=[^>]*>`)

func TestABrowserShowsThePageWithoutComplaintAtAnyWidth(t *testing.T) {
	btrfstest.OnlyInAll(t)
	chromium, err := exec.LookPath("chromium")
	check(t, err)
	look := func(page string, more ...string) (dom, log string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "page.html")
		check(t, os.WriteFile(file, []byte(page), 0o644))
		c := exec.Command(chromium, append([]string{"--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
			"--user-data-dir=" + t.TempDir(), "--dump-dom"}, append(more, "file://"+file)...)...)
		var told strings.Builder
		c.Stderr = &told
		out, err := c.Output()
		check(t, err)
		return string(out), told.String()
	}
	for name, p := range map[string]Picture{"example": example(), "200 backups at 5 destinations": large(5, 200, "")} {
		page := pageOf(t, p)
		if _, log := look(page); strings.Contains(log, "CONSOLE") {
			t.Errorf("%s: the browser complains:\n%s", name, log)
		}
		for _, width := range []int{375, 1280, 1920} {
			open := strings.ReplaceAll(policyOfFile.ReplaceAllString(page, ""), "<details>", `<details open="">`)
			framed := html.EscapeString(strings.Replace(open, "</body>", measuring+"</body>", 1)) // a window is no narrower than 500
			dom, _ := look(fmt.Sprintf(`<title></title><iframe style="width:%dpx;height:900px" srcdoc="%s"></iframe>`, width, framed), "--window-size=2000,900")
			title := regexp.MustCompile(`<title>(measured .*?)</title>`).FindStringSubmatch(dom)
			if title == nil || !strings.Contains(title[1], fmt.Sprintf(" fits %d ", width)) {
				t.Errorf("%s at %d: %v", name, width, title)
				continue
			}
			t.Logf("%s at %d, all open: %s (width, height, milliseconds, reached by the keyboard)", name, width, title[1])
		}
	}
}
