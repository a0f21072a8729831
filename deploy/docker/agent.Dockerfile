# The agents of a cluster, watcher and executor, with what they import and nothing else.
#   docker build -f deploy/docker/agent.Dockerfile -t flotilla-agent .
#   docker run flotilla-agent services.executor
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
# The same bytes whoever builds, and when: sets in one order, and no bytecode that has times in it.
ENV PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
COPY deploy/docker/agent.lock /build/requirements.lock
RUN --mount=type=cache,target=/root/.cache/pip,sharing=locked \
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --require-hashes --no-deps \
      --only-binary :all: --no-compile --target /flotilla/lib -r /build/requirements.lock
# Of AWS's services those that node groups ask, and that which gives a service account its role.
RUN rm -rf /flotilla/lib/bin /flotilla/lib/boto3/examples \
 && find /flotilla/lib/botocore/data /flotilla/lib/boto3/data -mindepth 1 -maxdepth 1 -type d \
      ! -name autoscaling ! -name eks ! -name sts -exec rm -rf {} + \
 && python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /flotilla/lib
COPY shared /flotilla/app/shared
COPY services/__init__.py /flotilla/app/services/
COPY services/watcher /flotilla/app/services/watcher
COPY services/executor /flotilla/app/services/executor
RUN rm -rf /flotilla/app/shared/runtime/embedded /flotilla/app/shared/testing \
 && python3 -m compileall -q -j 1 --invalidation-mode unchecked-hash /flotilla/app \
 && install -d -o 65532 -g 65532 /flotilla/kubeconfigs \
 && chmod -R u=rwX,go=rX /flotilla \
 && find /flotilla -exec touch --no-dereference --date=@0 {} +

FROM ${BASE}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Flotilla agent" \
      org.opencontainers.image.description="Watcher and executor of one cluster of a Flotilla fleet" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# One copy into the root, since a folder above it would get the time of the build. A volume at /flotilla/kubeconfigs
# belongs to the user below.
COPY --from=build /flotilla /flotilla
ENV PYTHONPATH=/flotilla/app:/flotilla/lib PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    FLOTILLA_HTTP_HOST=0.0.0.0 FLOTILLA_HTTP_PORT=8080 FLOTILLA_LOG_FORMAT=json
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --start-interval=2s --retries=3 \
  CMD ["python3", "-m", "shared.runtime.probe"]
ENTRYPOINT ["python3", "-m"]
CMD ["services.watcher"]
