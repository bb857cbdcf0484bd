package arguments

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// newArgvRoot gives a command tree with the options of the predecessor, and a command with options of its own.
func newArgvRoot() *cobra.Command {
	run := func(*cobra.Command, []string) {}
	root := &cobra.Command{Use: "btrfs-backup", Version: "1.0", Args: cobra.ArbitraryArgs, Run: run}
	flags := root.Flags()
	flags.StringP("verbosity", "v", "info", "")
	flags.BoolP("quiet", "q", false, "")
	flags.BoolP("btrfs-debug", "d", false, "")
	flags.BoolP("no-progress", "P", false, "")
	flags.IntP("num-snapshots", "N", 0, "")
	flags.IntP("num-backups", "n", 0, "")
	flags.BoolP("no-snapshot", "S", false, "")
	flags.StringP("snapshot-folder", "f", "snapshot", "")
	flags.StringP("snapshot-prefix", "p", "", "")
	flags.BoolP("no-transfer", "T", false, "")
	flags.BoolP("no-incremental", "I", false, "")
	flags.StringArray("ssh-opt", nil, "")
	flags.Bool("sync", false, "")
	flags.Bool("sync-now", false, "")
	flags.Bool("latest-only", false, "")
	flags.Bool("debug", false, "")
	if err := errors.Join(flags.MarkHidden("debug"), flags.MarkDeprecated("latest-only", "use -N 1")); err != nil {
		panic(err)
	}
	root.PersistentFlags().String("config", "", "")

	list := &cobra.Command{Use: "list [SOURCE]", Aliases: []string{"ls"}, Run: run}
	list.Flags().BoolP("json", "j", false, "")
	list.Flags().StringP("format", "f", "", "")
	root.AddCommand(list, &cobra.Command{Use: "serve", Hidden: true, Run: run})
	return root
}

// parse gives the options of the root command as pflag sets them from args, and the positionals.
func parse(t *testing.T, args []string) (*pflag.FlagSet, []string) {
	t.Helper()
	flags := newArgvRoot().Flags()
	if err := flags.Parse(args); err != nil {
		t.Fatalf("parse %q: %v", args, err)
	}
	return flags, flags.Args()
}

// inFiles changes to a new directory with the given files.
func inFiles(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func wantExpanded(t *testing.T, args, want []string) {
	t.Helper()
	got, err := Expand(newArgvRoot(), args)
	if err != nil {
		t.Fatalf("Expand(%q): %v", args, err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("Expand(%q)\n got %q\nwant %q", args, got, want)
	}
}

func wantUsageError(t *testing.T, args []string, msg, forward string) {
	t.Helper()
	got, err := Expand(newArgvRoot(), args)
	usage, ok := errors.AsType[Error](err)
	if !ok {
		t.Fatalf("Expand(%q) = %q, %v, want a Error", args, got, err)
	}
	if usage.Error() != msg || hint.Of(usage) != forward {
		t.Errorf("Expand(%q)\n got %q, hint %q\nwant %q, hint %q", args, usage.Error(), hint.Of(usage), msg, forward)
	}
}

func TestExpandArgsKeepsCompleteArguments(t *testing.T) {
	for name, args := range map[string][]string{
		"positionals":                  {"/home", "/mnt/backup", "ssh://nas/backup"},
		"empty positional":             {"", "/mnt"},
		"single dash":                  {"-", "/mnt"},
		"path that begins with @":      {"./@home", "/mnt"},
		"cluster":                      {"-TSq", "/home"},
		"cluster with glued value":     {"-TSN3", "/home"},
		"cluster with value behind":    {"-qN", "3", "/home"},
		"short with glued value":       {"-N3", "/home"},
		"short with value behind":      {"-N", "3", "/home"},
		"short with = value":           {"-N=3", "-q=false", "/home"},
		"long with = value":            {"--num-snapshots=2", "/home"},
		"long with value behind":       {"--num-snapshots", "2", "/home"},
		"boolean with = value":         {"--quiet=false", "/home"},
		"empty value":                  {"-f", "", "--snapshot-prefix=", "/home"},
		"negative value":               {"-N", "-1", "--num-backups", "-1", "/home"},
		"value that looks like a flag": {"-p", "--no-t", "-f", "-Z", "/home"},
		"value that is --":             {"-p", "--", "-q", "/home"},
		"value that begins with @":     {"-p", "@home", "-Tp", "@home", "-p@home", "--snapshot-prefix", "@home", "--snapshot-prefix=@home-"},
		"value that is missing":        {"/home", "-N"},
		"options among positionals":    {"/home", "-T", "-S", "/mnt"},
		"repeated option":              {"--ssh-opt", "A=1", "--ssh-opt=B=2", "/home"},
		"everything behind --":         {"-q", "--", "@home", "--no-t", "-Z", "--", "list"},
		"hidden and deprecated":        {"--debug", "--latest-only", "/home"},
		"default flags":                {"--help", "-h", "--version"},
		"inherited flag":               {"list", "--config", "@x", "--json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			wantExpanded(t, args, args)
		})
	}
}

func TestExpandArgsCompletesAbbreviatedOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"--num-s 5 /home", "--num-snapshots 5 /home"},
		{"--num-s=5 --no-t", "--num-snapshots=5 --no-transfer"},
		{"--snapshot-p=a=b /home", "--snapshot-prefix=a=b /home"},
		{"--no-t /home", "--no-transfer /home"},
		{"/home --no-t /mnt", "/home --no-transfer /mnt"},
		{"--snapshot-p @home --no-t", "--snapshot-prefix @home --no-transfer"},
		{"--snapshot-p --no-t --no-t", "--snapshot-prefix --no-t --no-transfer"},
		{"--sync", "--sync"},
		{"--sync-", "--sync-now"},
		{"--deb", "--debug"},
		{"--lat", "--latest-only"},
		{"--hel", "--help"},
		{"--vers", "--version"},
		{"--ver", "ambiguous option --ver: could be --verbosity, --version"},
		{"--num=3", "ambiguous option --num: could be --num-backups, --num-snapshots"},
		{"--no-", "ambiguous option --no-: could be --no-incremental, --no-progress, --no-snapshot, --no-transfer"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			if strings.HasPrefix(tt.want, "ambiguous") {
				wantUsageError(t, strings.Fields(tt.args), tt.want, "")
			} else {
				wantExpanded(t, strings.Fields(tt.args), strings.Fields(tt.want))
			}
		})
	}
}

func TestExpandArgsSortsCandidatesOfUnsortedFlags(t *testing.T) {
	t.Parallel()
	root := newArgvRoot()
	root.Flags().SortFlags = false
	_, err := Expand(root, []string{"--num"})
	want := "ambiguous option --num: could be --num-backups, --num-snapshots"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestExpandArgsRejectsUnknownOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, msg, hint string }{
		{"--num-bakups 3", "unknown option --num-bakups", "did you mean --num-backups?"},
		{"--num-bakups=3", "unknown option --num-bakups", "did you mean --num-backups?"},
		{"--QUIET", "unknown option --QUIET", "did you mean --quiet?"},
		{"--synk", "unknown option --synk", "did you mean --sync?"},
		{"--wersion", "unknown option --wersion", "did you mean --version?"},
		{"--debgu", "unknown option --debgu", ""},
		{"--frobnicate", "unknown option --frobnicate", ""},
		{"--=3", "unknown option --", ""},
		{"---quiet", "unknown option ---quiet", "did you mean --quiet?"},
		{"/home -Z", "unknown option -Z", ""},
		{"-TZ", "unknown option -Z in -TZ", ""},
		{"-Té", "unknown option -é in -Té", ""},
		{"-T=", "unknown option -= in -T=", ""},
		{"-1", "unknown option -1", ""},
		{"list --no-t", "unknown option --no-t", ""},
		{"list -T", "unknown option -T", ""},
	} {
		t.Run(tt.args, func(t *testing.T) {
			wantUsageError(t, strings.Fields(tt.args), tt.msg, tt.hint)
		})
	}
}

func TestExpandArgsLooksUpOptionsInTheCommand(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"list --js", "list --json"},
		{"ls --js", "ls --json"},
		{"list --conf x --js", "list --config x --json"},
		{"--conf list list --js", "--config list list --json"},
		{"-q list --form=x", "-q list --format=x"},
		{"completion bash --no-d", "completion bash --no-descriptions"},
		{"help --hel list", "help --help list"},
		{"lis --no-t", "lis --no-transfer"},
		{"LIST --no-t", "LIST --no-transfer"},
		{"./list --no-t", "./list --no-transfer"},
		{"/home list --no-t", "/home list --no-transfer"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			wantExpanded(t, strings.Fields(tt.args), strings.Fields(tt.want))
		})
	}
}

func TestExpandArgsLeavesCompletionRequestsAlone(t *testing.T) {
	t.Parallel()
	for _, request := range []string{cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd} {
		args := []string{request, "@missing", "--no-t", "--no", "-Z"}
		wantExpanded(t, args, args)
	}
}

func TestExpandedArgsLeadCobraToTheSameCommand(t *testing.T) {
	inFiles(t, map[string]string{"list.args": "list\n--js\n", "quiet.args": "--qui\n"})
	for args, want := range map[string]string{
		"-Tp list /home":         "btrfs-backup",
		"-Tp list list /home":    "list",
		"-p list /home":          "btrfs-backup",
		"--snapshot-p list /a":   "btrfs-backup",
		"--help list":            "list",
		"@list.args":             "list",
		"@quiet.args list":       "list",
		"@quiet.args /home list": "btrfs-backup",
		"-- list":                "btrfs-backup",
		"- list --js":            "list",
		"'' list --js":           "list",
	} {
		t.Run(args, func(t *testing.T) {
			root := newArgvRoot()
			expanded, err := Expand(root, strings.Split(strings.ReplaceAll(args, "''", ""), " "))
			if err != nil {
				t.Fatal(err)
			}
			if command, _, err := root.Find(expanded); err != nil || command.Name() != want {
				t.Errorf("cobra finds %s in %q (%v), want %s", command.Name(), expanded, err, want)
			}
		})
	}
	wantExpanded(t, []string{"-STp", "list", "/home"}, []string{"-ST", "-p", "list", "/home"})
	wantExpanded(t, []string{"-p", "list", "/home"}, []string{"-p", "list", "/home"})
}

func TestExpandArgsNeverGivesNil(t *testing.T) {
	inFiles(t, map[string]string{"empty": ""})
	for _, args := range [][]string{nil, {"@empty"}} {
		if got, err := Expand(newArgvRoot(), args); err != nil || got == nil || len(got) != 0 {
			t.Errorf("Expand(%q) = %#v, %v, want []string{}", args, got, err)
		}
	}
}

func TestArgumentFileGrammar(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"lines are stripped", "  /home\t\n \t -N 3  \n", []string{"/home", "-N", "3"}},
		{"empty lines are ignored", "\n/home\n   \n\n", []string{"/home"}},
		{"comments are ignored", "# a\n  # b\n/home\n", []string{"/home"}},
		{"there are no trailing comments", "/home # here\n-p x # y\n", []string{"/home # here", "-p", "x # y"}},
		{"last line may lack its end", "-q\n/home", []string{"-q", "/home"}},
		{"CRLF ends a line", "-N 3\r\n\r\n/home\r\n", []string{"-N", "3", "/home"}},
		{"an option splits at the first whitespace run", "-p  \t a  b \n", []string{"-p", "a  b"}},
		{"quotes are literal", "-p  \"x y\"\n", []string{"-p", `"x y"`}},
		{"an option with = stays one", "--num-snapshots=2\n", []string{"--num-snapshots=2"}},
		{"an option with = and a space splits", "--snapshot-prefix=a b\n", []string{"--snapshot-prefix=a", "b"}},
		{"a positional may have spaces", "/my  home\n", []string{"/my  home"}},
		{"nothing is an escape or a home", `a\ b` + "\n~/x\n", []string{`a\ b`, "~/x"}},
		{"an option's value is not a file", "-p @home\n--snapshot-prefix=@x\n", []string{"-p", "@home", "--snapshot-prefix=@x"}},
		{"a value may stand on the next line", "-p\n@home\n-N\n-1\n/home\n", []string{"-p", "@home", "-N", "-1", "/home"}},
		{"options are completed", "--num-s 5\n--no-t\n", []string{"--num-snapshots", "5", "--no-transfer"}},
		{"nothing behind -- is expanded", "-q\n--\n@home\n--no-t\n", []string{"-q", "--", "@home", "--no-t"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inFiles(t, map[string]string{"args": tt.text})
			wantExpanded(t, []string{"@args"}, tt.want)
		})
	}
}

func TestArgumentFileMixesWithDirectArguments(t *testing.T) {
	inFiles(t, map[string]string{
		"global":   "-N 1\n--ssh-opt A=1\n",
		"home":     "/home\n-N 2\n--ssh-opt B=2\n",
		"open":     "/home\n-p",
		"tail":     "/home\n--",
		"my files": "/home\n",
	})
	for _, tt := range []struct{ args, want []string }{
		{[]string{"-q", "@home", "/mnt"}, []string{"-q", "/home", "-N", "2", "--ssh-opt", "B=2", "/mnt"}},
		{[]string{"@my files", "/mnt"}, []string{"/home", "/mnt"}},
		{[]string{"@open", "@global"}, []string{"/home", "-p", "@global"}},
		{[]string{"@tail", "@global", "--no-t"}, []string{"/home", "--", "@global", "--no-t"}},
		{[]string{"-p", "@home", "@home"}, []string{"-p", "@home", "/home", "-N", "2", "--ssh-opt", "B=2"}},
		{[]string{"@my files", "@my files"}, []string{"/home", "/home"}},
	} {
		wantExpanded(t, tt.args, tt.want)
	}

	args, err := Expand(newArgvRoot(), []string{"@global", "@home", "-N", "3", "--ssh-opt=C=3"})
	if err != nil {
		t.Fatal(err)
	}
	flags, positionals := parse(t, args)
	if got := flags.Lookup("num-snapshots").Value.String(); got != "3" {
		t.Errorf("-N is %s, want 3: later options override earlier ones", got)
	}
	if got, _ := flags.GetStringArray("ssh-opt"); !slices.Equal(got, []string{"A=1", "B=2", "C=3"}) {
		t.Errorf("--ssh-opt is %q, want all three", got)
	}
	if !slices.Equal(positionals, []string{"/home"}) {
		t.Errorf("positionals are %q, want /home", positionals)
	}
}

func TestArgumentFileIncludesRelativeToItself(t *testing.T) {
	inFiles(t, map[string]string{
		"etc/backup/home":           "# what is special about home\n-p home-\n@../global args\n/home\n@dests/nas\n",
		"etc/global args":           "--quiet\n--num-s 3\n@backup/dests/usb disk\n",
		"etc/backup/dests/nas":      "ssh://nas/backup\n",
		"etc/backup/dests/usb disk": "/mnt/usb disk\n",
		"global args":               "--wrong-directory\n",
	})
	want := []string{"-p", "home-", "--quiet", "--num-snapshots", "3", "/mnt/usb disk", "/home", "ssh://nas/backup", "-N", "5"}
	wantExpanded(t, []string{"@etc/backup/home", "-N", "5"}, want)

	absolute, err := filepath.Abs("etc/backup/home")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("/")
	wantExpanded(t, []string{"@" + absolute, "-N", "5"}, want)

	inFiles(t, map[string]string{"outer": "@" + absolute + "\n"})
	wantExpanded(t, []string{"@outer", "-N", "5"}, want)
}

func TestArgumentFileLoopIsAnError(t *testing.T) {
	inFiles(t, map[string]string{
		"self":  "-q\n@self\n",
		"start": "@dir/a\n",
		"dir/a": "\n@b\n",
		"dir/b": "/home\n\n@../dir/a\n",
		"twice": "@leaf\n@leaf\n",
		"leaf":  "/home\n",
		"link":  "@here/link\n",
	})
	if err := os.Symlink(".", "here"); err != nil {
		t.Fatal(err)
	}
	wantUsageError(t, []string{"@self"}, "self:2: argument file includes itself: self -> self", "")
	wantUsageError(t, []string{"@start"}, "dir/b:3: argument file includes itself: dir/a -> dir/b -> dir/a", "")
	wantUsageError(t, []string{"@link"}, "link:1: argument file includes itself: link -> here/link", "")
	wantExpanded(t, []string{"@twice"}, []string{"/home", "/home"})
}

func TestArgumentFileThatCannotBeReadIsAnError(t *testing.T) {
	inFiles(t, map[string]string{"conf/main": "-q\n@sub/more\n", "dir/x": ""})
	hint := func(arg string) string { return "use ./" + arg + " for a path that begins with @" }
	wantUsageError(t, []string{"@home"}, `reading argument file "home": no such file or directory`, hint("@home"))
	wantUsageError(t, []string{"@"}, `reading argument file "": no such file or directory`, hint("@"))
	wantUsageError(t, []string{"@dir"}, `reading argument file "dir": is a directory`, hint("@dir"))
	wantUsageError(t, []string{"@conf/main"},
		`conf/main:2: reading argument file "conf/sub/more": no such file or directory`, hint("@sub/more"))
}

func TestErrorsTellTheLineOfTheArgumentFile(t *testing.T) {
	inFiles(t, map[string]string{"conf/main": "@quiet\n# next\n--num-bakups 3\n", "conf/quiet": "-q\n\n\n"})
	wantUsageError(t, []string{"@conf/main"}, "conf/main:3: unknown option --num-bakups", "did you mean --num-backups?")
	wantUsageError(t, []string{"@conf/quiet", "-Z"}, "unknown option -Z", "")
}

func TestNearestCommand(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"lsit":       "list",
		"List":       "list",
		"li":         "list",
		"hlep":       "help",
		"completoin": "completion",
		"serv":       "",
		"photos":     "",
		"./list":     "",
		"/lst":       "",
		"":           "",
	} {
		if got := NearestCommand(newArgvRoot(), word); got != want {
			t.Errorf("NearestCommand(%q) = %q, want %q", word, got, want)
		}
	}
}

func TestNearestPrefersTheShorterDistance(t *testing.T) {
	t.Parallel()
	if got := Nearest("syncs", []string{"zincs", "sync"}); got != "sync" {
		t.Errorf("got %q, want sync", got)
	}
}

func FuzzExpandArgs(f *testing.F) {
	f.Chdir(f.TempDir())
	f.Add("-TSN3\n/home\n@args\n--no-t", "-p  \"x y\"\n@args\n# z\n")
	f.Add("-qN\n3\n-p\n@home\n--\n@args", "--num-s 3\r\n/my home")
	f.Add("list\n--js\n-", "-Té\n--=\n---\n-=\n-N=\n")
	f.Fuzz(func(t *testing.T, words, text string) {
		if leavesDirectory(words) || leavesDirectory(text) {
			return
		}
		if err := os.WriteFile("args", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		args := strings.Split(words, "\n")
		got, err := Expand(newArgvRoot(), args)
		if err != nil {
			if _, ok := errors.AsType[Error](err); !ok || err.Error() == "" {
				t.Fatalf("Expand(%q): %#v is not a usage error", args, err)
			}
			return
		}
		if again, err := Expand(newArgvRoot(), got); err != nil || !slices.Equal(again, got) {
			t.Errorf("expanding %q again gives %q, %v", got, again, err)
		}
		if isComplete(args) && !slices.Equal(got, args) {
			t.Errorf("Expand(%q) = %q, want it unchanged", args, got)
		}
	})
}

// leavesDirectory reports whether text might name an argument file outside the directory of the test.
func leavesDirectory(text string) bool {
	return strings.Contains(text, "@/") || strings.Contains(text, "..")
}

// isComplete reports whether args hold neither an argument file, nor a long option, nor the name of a command.
func isComplete(args []string) bool {
	return !slices.ContainsFunc(args, func(arg string) bool {
		return strings.HasPrefix(arg, "@") || strings.HasPrefix(arg, "--") && arg != "--" || Subcommand(newArgvRoot(), arg) != nil
	})
}
