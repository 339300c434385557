"""The plugin's components, listed without heavy imports."""

from __future__ import annotations

from collections.abc import Iterable

from penstock.component import Component
from penstock.hookspecs import hookimpl


@hookimpl
def penstock_sources() -> Iterable[Component]:
    """Offer the Kafka sources, the video source and the test picture."""
    return [
        Component(
            "kafka",
            "penstock_kafka_av.kafka.source:KafkaSource",
            summary="Messages of Kafka topics, by list, pattern or schema",
            gives="bytes",
            requires="confluent_kafka",
        ),
        Component(
            "kafka-link",
            "penstock_kafka_av.kafka.link.source:KafkaLinkSource",
            summary="Records of another pipeline, through a topic that keeps them",
            gives="any",
            requires="confluent_kafka",
        ),
        Component(
            "video",
            "penstock_kafka_av.source:VideoSource",
            summary="Packets (or frames) of a video file, an RTSP camera or an HTTP stream",
            gives="bytes",
            requires="av",
        ),
        Component(
            "test-picture",
            "penstock_kafka_av.test_picture:TestPictureSource",
            summary="Packets of a moving test picture, encoded as H.264 while it is read",
            gives="bytes",
            requires="av",
        ),
    ]


@hookimpl
def penstock_decoders() -> Iterable[Component]:
    """Offer the video decoder."""
    return [
        Component(
            "av",
            "penstock_kafka_av.decoder:AvDecoder",
            summary="Video packets (H.264, HEVC, MJPEG, VP9, AV1, FFV1 and more) to arrays",
            takes="bytes",
            gives="array",
            requires="av",
        )
    ]


@hookimpl
def penstock_processors() -> Iterable[Component]:
    """Offer the processors for thumbnails and motion."""
    return [
        Component(
            "thumbnail",
            "penstock_kafka_av.thumbnail:Thumbnail",
            summary="A smaller picture, by the mean of each block of pixels",
            takes="array",
            gives="array",
            requires="numpy",
        ),
        Component(
            "background-difference",
            "penstock_kafka_av.background:BackgroundDifference",
            summary="Distance of each pixel from the running mean of its channel",
            takes="array",
            gives="array",
            requires="numpy",
        ),
    ]


@hookimpl
def penstock_stores() -> Iterable[Component]:
    """Offer the Kafka stores, and those of videos and images."""
    return [
        Component(
            "kafka",
            "penstock_kafka_av.kafka.store:KafkaStore",
            summary="Messages on Kafka topics: records, JSON, or the packet with results as headers",
            takes="any",
            requires="confluent_kafka",
        ),
        Component(
            "kafka-link",
            "penstock_kafka_av.kafka.link.store:KafkaLinkStore",
            summary="Records to another pipeline, through a topic that keeps them",
            takes="any",
            requires="confluent_kafka",
        ),
        Component(
            "video",
            "penstock_kafka_av.recording.video_store:VideoStore",
            summary="Videos (MP4, Matroska): encoded frames, or unchanged packets, in segments",
            takes="any",
            requires="av",
        ),
        Component(
            "image",
            "penstock_kafka_av.recording.image_store:ImageStore",
            summary="Each picture as a PNG or JPEG file",
            takes="any",
            requires="av",
        ),
    ]
