FROM lmsysorg/sglang:v0.5.23
RUN python3 -m pip install --no-cache-dir --break-system-packages eagle3-plugin==0.1.0
