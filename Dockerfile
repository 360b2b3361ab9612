# Both programs in one image, nothing else in it: docker build -t lastseat .
FROM golang:1.26.5@sha256:3aff6657219a4d9c14e27fb1d8976c49c29fddb70ba835014f477e1c70636647 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
# With .git, from which the programs have the version that they report.
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /out/ ./cmd/worker ./cmd/enqueue

FROM scratch
# To check a server's certificate, sslmode=verify-full.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/worker /out/enqueue /
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
ENTRYPOINT ["/worker"]
CMD ["run"]
