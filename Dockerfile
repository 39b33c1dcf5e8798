# Engine and operator in one image, for builders that take a Dockerfile; `make image` makes the same from local files.
#
# Compiled on glibc 2.28, because a restore copies the engine's binary into the image of the user's own PostgreSQL, which
# is often older than anything here.
FROM docker.io/library/almalinux:8 AS build
RUN dnf --assumeyes install cmake gcc gcc-c++ make && dnf clean all
WORKDIR /source
COPY rust-toolchain.toml ./
RUN curl --proto '=https' --tlsv1.2 --silent --show-error --fail https://sh.rustup.rs | \
    sh -s -- -y --no-modify-path --profile minimal --default-toolchain none
ENV PATH=/root/.cargo/bin:$PATH
COPY . .
RUN cargo build --locked --release --package pg_hardstorage --package pg_hardstorage_operator && \
    mkdir /out && cp target/release/pg_hardstorage target/release/pg_hardstorage_operator /out/

# glibc, certificate authorities and time zones; no shell. Its user is 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ /usr/local/bin/
COPY LICENSE /usr/share/doc/pg_hardstorage/
ENV PATH=/usr/local/bin
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/pg_hardstorage"]
LABEL org.opencontainers.image.title=pg_hardstorage org.opencontainers.image.licenses=Apache-2.0
