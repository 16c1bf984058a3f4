// Command pack makes what deployments/deploy puts on AWS: the zip files of the
// functions, the image of the gateway, and the parameters of the destinations.
//
//	pack functions [-o dist] [NAME…]     router.zip, connector.zip, redrive.zip
//	pack image [-o dist/image]           an OCI image layout, for crane push
//	pack destinations [-o DIR] FILE      the SSM parameters of a destinations document
//	pack digest FILE…                    one SHA-256 over files, in hex
//
// What it writes is the same, byte for byte, for the same sources and the same
// version of Go.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("say what: functions, image, destinations or digest")
	}
	flags := flag.NewFlagSet("pack "+args[0], flag.ContinueOnError)
	switch args[0] {
	case "functions":
		dir := flags.String("o", "dist", "folder for the zip files")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		names := flags.Args()
		if len(names) == 0 {
			names = functions
		}
		return packFunctions(ctx, *dir, names, out)
	case "image":
		dir := flags.String("o", filepath.Join("dist", "image"), "folder for the layout")
		version := flags.String("version", "devel", "version that the gateway says it is")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		return packImage(ctx, *dir, *version, out)
	case "destinations":
		dir := flags.String("o", "", "folder for the parameters")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		if flags.NArg() != 1 || *dir == "" {
			return errors.New("use: pack destinations -o DIR FILE")
		}
		return packDestinations(*dir, flags.Arg(0), out)
	case "digest":
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		sum, err := digest(flags.Args())
		if err == nil {
			fmt.Fprintln(out, sum)
		}
		return err
	}
	return fmt.Errorf("%q is none of functions, image, destinations, digest", args[0])
}

// arch is what the functions and the gateway run on: Graviton is cheaper than
// x86 for both. Source: AWS Lambda and Fargate pricing (read 2026-11).
const arch = "arm64"

// build compiles a command of this module for Linux, static.
func build(ctx context.Context, command, output string, more ...string) error {
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-o", output}, more...)
	cmd := exec.CommandContext(ctx, "go", append(args, command)...)
	// What the environment may say otherwise would change the bytes.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOARM64=v8.0", "GOFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", command, err, strings.TrimSpace(string(said)))
	}
	return nil
}

// digest returns one SHA-256 over the names and the bytes of files.
func digest(files []string) (string, error) {
	all := sha256.New()
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(all, "%s %x\n", filepath.Base(name), sha256.Sum256(content))
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}
