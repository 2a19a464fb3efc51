# The worker's image. The build context is the repository's root; .dockerignore says what of it is sent.
# Only COPY and pip, so that it builds on whatever Linux is below the base image.

FROM public.ecr.aws/lambda/python:3.13 AS ffmpeg
COPY layers/ffmpeg/ /build/
RUN python /build/build.py --arch "$(uname -m | sed s/aarch64/arm64/)" --target /ffmpeg

FROM public.ecr.aws/lambda/python:3.13
# Container images take no layers: this is the content of the layer, at the place where Lambda puts it.
COPY --from=ffmpeg /ffmpeg/ /opt/
COPY functions/requirements-worker.txt /tmp/
RUN pip install --no-cache-dir --require-hashes --only-binary=:all: --requirement /tmp/requirements-worker.txt
COPY functions/ ${LAMBDA_TASK_ROOT}/
CMD ["worker.handler"]
