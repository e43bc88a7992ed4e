// Compiled with the generated stubs: a call, and the reason of its error. It reads a
// google.rpc.Status from stdin and prints the reason in it.

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import io.github.ingot_media.ingot.v1.IngestRequest;
import io.github.ingot_media.ingot.v1.IngestServiceGrpc;
import io.github.ingot_media.ingot.v1.Job;
import io.github.ingot_media.ingot.v1.JobServiceGrpc;
import io.github.ingot_media.ingot.v1.WatchJobRequest;
import io.grpc.Channel;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.IOException;

public final class Main {
    static void ingest(Channel channel, String url) throws InvalidProtocolBufferException {
        try {
            IngestRequest request = IngestRequest.newBuilder().setUrl(url).build();
            Job job = IngestServiceGrpc.newBlockingStub(channel).ingest(request).getJob();
            WatchJobRequest watch = WatchJobRequest.newBuilder().setJobId(job.getId()).build();
            JobServiceGrpc.newBlockingStub(channel).watchJob(watch).forEachRemaining(System.out::println);
        } catch (StatusRuntimeException error) {
            System.out.println(reason(StatusProto.fromThrowable(error)));
        }
    }

    static String reason(Status status) throws InvalidProtocolBufferException {
        for (Any detail : status.getDetailsList()) {
            if (detail.is(ErrorInfo.class)) {
                ErrorInfo info = detail.unpack(ErrorInfo.class);
                return info.getDomain() + " " + info.getReason();
            }
        }
        return "";
    }

    public static void main(String[] arguments) throws IOException {
        System.out.println(reason(Status.parseFrom(System.in)));
    }
}
