# The control plane: scheduler, status, hub and the other services that run once, the simulator and the command line.
#   docker build -f deploy/docker/control-plane.Dockerfile -t flotilla-control-plane .
#   docker run flotilla-control-plane services.status
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# The same bytes whoever builds, and when: sets in one order, no bytecode that has times in it, code for any processor.
ENV PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/flotilla/app:/flotilla/lib
ENV NUMBA_CACHE_DIR=/flotilla/compiled NUMBA_CPU_NAME=generic
COPY deploy/docker/control-plane.lock /build/requirements.lock
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --require-hashes --no-deps \
      --only-binary :all: --no-compile --target /flotilla/lib -r /build/requirements.lock
# Tests of dependencies and their command line scripts are of no use here.
RUN rm -rf /flotilla/lib/bin /flotilla/lib/numba/tests \
 && find /flotilla/lib/numpy -type d -name tests -prune -exec rm -rf {} + \
 && python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /flotilla/lib
COPY shared /flotilla/app/shared
COPY services /flotilla/app/services
RUN python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /flotilla/app \
 && python3 -m services.scheduler.baked_cache \
 && install -d -o 65532 -g 65532 /flotilla/kubeconfigs \
 && chmod -R u=rwX,go=rX /flotilla \
 && find /flotilla -exec touch --no-dereference --date=@0 {} +

FROM ${BASE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Flotilla control plane" \
      org.opencontainers.image.description="Run many Kubernetes clusters as one: scheduler, status, hub, simulator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# One copy into the root, since a folder above it would get the time of the build. A volume at /flotilla/kubeconfigs
# belongs to the user below.
COPY --from=build /flotilla /flotilla
ENV PYTHONPATH=/flotilla/app:/flotilla/lib PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/flotilla/compiled NUMBA_CPU_NAME=generic \
    NUMBA_CACHE_LOCATOR_CLASSES=services.scheduler.baked_cache.BakedCacheLocator \
    FLOTILLA_HTTP_HOST=0.0.0.0 FLOTILLA_HTTP_PORT=8080 FLOTILLA_LOG_FORMAT=json
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --start-interval=2s --retries=3 \
  CMD ["python3", "-m", "shared.runtime.probe"]
ENTRYPOINT ["python3", "-m"]
CMD ["services.scheduler"]
