# Both programs, each in an image of its own: docker build --target server -t papo-server .
#                                            docker build --target operator -t papo-operator .
# The binaries are static, so the final images hold one file each; the page is built into the server's.

FROM rust:1.95-trixie AS build
WORKDIR /src
# aws-lc, the TLS provider, is C.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
COPY . .
ENV RUSTFLAGS="-C target-feature=+crt-static"
# Cargo tells by modification times what has changed since it filled the cache, perhaps from another checkout: all files are new.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    find . -path ./target -prune -o -type f -exec touch {} + && \
    target=$(rustc -vV | sed -n 's/^host: //p') && \
    cargo build --locked --profile image --target "$target" -p papo-server -p papo-operator && \
    mkdir /out && cp "target/$target/image/papo-server" "target/$target/image/papo-operator" /out/

# Nothing but the certificates that the system is trusted with.
FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
USER 65532:65532

FROM base AS server
COPY --from=build /out/papo-server /papo-server
# 5001 has probes and metrics, for this container alone unless PAPO_ADMIN_LISTEN says otherwise (the operator sets it).
EXPOSE 5000 5001
ENTRYPOINT ["/papo-server"]

FROM base AS operator
COPY --from=build /out/papo-operator /papo-operator
EXPOSE 8080
ENTRYPOINT ["/papo-operator"]
