package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// packImage builds the gateway and writes an image of it, the one of the
// Dockerfile but for arm64 and without a Docker engine, as an OCI image
// layout. It prints the digest of the manifest.
func packImage(ctx context.Context, dir, version string, out io.Writer) error {
	temporary, err := os.MkdirTemp("", "pack-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	binary := filepath.Join(temporary, "sluice")
	err = build(ctx, "./cmd/sluice", binary, "-pgo=cmd/sluice/release.pgo",
		"-ldflags", "-s -w -X github.com/eventsluice/sluice/internal/app.version="+version)
	if err != nil {
		return err
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	license, err := os.ReadFile("LICENSE")
	if err != nil {
		return err
	}
	roots, err := rootCertificates()
	if err != nil {
		return err
	}
	files, err := layout(program, license, roots)
	if err != nil {
		return err
	}
	// What an earlier run left would be pushed too.
	if err := os.RemoveAll(filepath.Join(dir, "blobs")); err != nil {
		return err
	}
	for name, content := range files.content {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(file, content, 0o644); err != nil { //nolint:gosec // not secret
			return err
		}
	}
	fmt.Fprintln(out, files.manifest)
	return nil
}

// rootFiles are where systems keep the certificates that TLS trusts.
var rootFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Alpine, Arch
	"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, Amazon Linux
	"/etc/ssl/ca-bundle.pem",             // openSUSE
	"/etc/ssl/cert.pem",                  // macOS, BSD
}

// rootCertificates returns those that this machine trusts: the image has no
// system of its own.
func rootCertificates() ([]byte, error) {
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		return os.ReadFile(file)
	}
	for _, file := range rootFiles {
		if roots, err := os.ReadFile(file); err == nil {
			return roots, nil
		}
	}
	return nil, fmt.Errorf("no root certificates in %v; name a file of them with SSL_CERT_FILE", rootFiles)
}

// gatewayUser is the user that the gateway runs as, and the owner of /data.
const gatewayUser = 65532

// image is an OCI image layout: files by name, and the digest of its manifest.
type image struct {
	content  map[string][]byte
	manifest string
}

// add adds a blob and returns what describes it.
func (i *image) add(mediaType string, content []byte) descriptor {
	d := descriptor{MediaType: mediaType, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(content)), Size: len(content)}
	i.content["blobs/sha256/"+d.Digest[len("sha256:"):]] = content
	return d
}

// descriptor names a blob. Source: OCI image specification 1.1, descriptor.md.
type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int       `json:"size"`
	Platform  *platform `json:"platform,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// layout makes the image.
func layout(program, license, roots []byte) (*image, error) {
	layer, err := tarred([]entry{
		{"LICENSE", 0o644, 0, license},
		{"data/", 0o755, gatewayUser, nil},
		{"etc/", 0o755, 0, nil},
		{"etc/ssl/", 0o755, 0, nil},
		{"etc/ssl/certs/", 0o755, 0, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, 0, roots},
		{"sluice", 0o755, 0, program},
	})
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(layer); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}

	type object = map[string]any
	made := &image{content: map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	config, err := json.Marshal(object{
		"created": time.Unix(0, 0).UTC(), "architecture": arch, "os": "linux",
		"config": object{
			"Entrypoint": []string{"/sluice"}, "Cmd": []string{"gateway"}, "WorkingDir": "/",
			"User": fmt.Sprintf("%d:%d", gatewayUser, gatewayUser),
			"Env":  []string{"PATH=/", "SLUICE_DATA_DIR=/data"},
			// Fargate gives a volume there the owner that /data has here.
			"Volumes": object{"/data": object{}}, "ExposedPorts": object{"8080/tcp": object{}},
			"Labels": object{"org.opencontainers.image.source": "https://github.com/eventsluice/sluice", "org.opencontainers.image.licenses": "Apache-2.0"},
		},
		"rootfs":  object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}},
		"history": []object{{"created": time.Unix(0, 0).UTC(), "created_by": "deployments/pack"}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal(object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": made.add("application/vnd.oci.image.config.v1+json", config),
		"layers": []descriptor{made.add("application/vnd.oci.image.layer.v1.tar+gzip", packed.Bytes())},
	})
	if err != nil {
		return nil, err
	}
	described := made.add("application/vnd.oci.image.manifest.v1+json", manifest)
	described.Platform = &platform{arch, "linux"}
	made.manifest = described.Digest
	made.content["index.json"], err = json.Marshal(object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []descriptor{described},
	})
	return made, err
}

// entry is a file of a layer, or a folder if its name ends in a slash.
type entry struct {
	name    string
	mode    int64
	owner   int
	content []byte
}

func tarred(entries []entry) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		header := &tar.Header{
			Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.content)),
			ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR,
		}
		if e.name[len(e.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}
