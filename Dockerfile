# The whole of sluice in one static binary and nothing else: no shell, no libc.
#
#   docker build --build-arg VERSION=$(git describe --tags --always) -t sluice .
#   docker run -p 8080:8080 -v sluice:/data sluice
#
# The console stays on the loopback of the container. To reach it from outside
# set SLUICE_ADMIN_ADDR=:8081 and an admin token. There is no HEALTHCHECK, for
# there is nothing in the image to run one with: point the platform's probes at
# GET /livez and GET /readyz of the gateway.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
# The folder that becomes /data: scratch has no mkdir and no chown.
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -pgo=cmd/sluice/release.pgo \
      -ldflags "-s -w -X github.com/eventsluice/sluice/internal/app.version=${VERSION}" -o /out/sluice ./cmd/sluice \
 && mkdir -p /out/data

FROM scratch
LABEL org.opencontainers.image.source="https://github.com/eventsluice/sluice" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/LICENSE /LICENSE
COPY --from=build /out/sluice /sluice
COPY --from=build --chown=65532:65532 /out/data /data
ENV SLUICE_DATA_DIR=/data
USER 65532:65532
VOLUME /data
EXPOSE 8080
# SIGTERM drains: answers what is in flight and keeps what is not delivered.
ENTRYPOINT ["/sluice"]
CMD ["up"]
