# The worker's image. The build context is the repository's root, limited by .dockerignore.
# It uses only COPY and pip, so it does not depend on the base image's Linux distribution.

# AWS publishes each build of a base image under a tag of its own, which it does not move.
FROM public.ecr.aws/lambda/python:3.13.2026.06.05.14 AS ffmpeg
COPY layers/ffmpeg/ /build/
RUN python /build/build.py --arch "$(uname -m | sed s/aarch64/arm64/)" --target /ffmpeg

FROM public.ecr.aws/lambda/python:3.13.2026.06.05.14
# Container images have no layers: this copies the content of the layer to where Lambda would put it.
COPY --from=ffmpeg /ffmpeg/ /opt/
COPY functions/requirements-worker.txt /tmp/
RUN pip install --no-cache-dir --require-hashes --only-binary=:all: --requirement /tmp/requirements-worker.txt
COPY functions/ ${LAMBDA_TASK_ROOT}/
# Lambda cannot write what Python compiles at a start.
RUN python -m compileall -q --invalidation-mode unchecked-hash ${LAMBDA_TASK_ROOT}
CMD ["worker.handler"]
