package dev.orion.beam;

import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Set;
import org.apache.beam.model.fnexecution.v1.BeamFnExternalWorkerPoolGrpc;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.CallOptions;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.Channel;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.ChannelCredentials;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.ClientCall;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.ClientInterceptor;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.ManagedChannelBuilder;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.ManagedChannelProvider;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.Metadata;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.MethodDescriptor;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.Status;
import org.apache.beam.vendor.grpc.v1p69p0.io.grpc.netty.NettyChannelProvider;

/**
 * Adds a token to a task manager's requests for Python workers.
 *
 * <p>Beam can only send what the job's environment says, and that is in the job graph for all to see. So gRPC takes its
 * channels from this provider. The token is in the file that the environment variable {@value #VARIABLE} of the task
 * manager names. Without that variable, gRPC does not use this class.
 */
public final class WorkerPoolToken extends ManagedChannelProvider implements ClientInterceptor {
  static final String VARIABLE = "ORION_WORKERS_TOKEN_FILE";

  private static final Metadata.Key<String> HEADER =
      Metadata.Key.of("orion-worker-token", Metadata.ASCII_STRING_MARSHALLER);

  private final NettyChannelProvider plain = new NettyChannelProvider();

  @Override
  protected boolean isAvailable() {
    return System.getenv(VARIABLE) != null && plain.isAvailable();
  }

  @Override
  protected int priority() {
    return plain.priority() + 1;
  }

  @Override
  protected ManagedChannelBuilder<?> builderForAddress(String name, int port) {
    return plain.builderForAddress(name, port).intercept(this);
  }

  @Override
  protected ManagedChannelBuilder<?> builderForTarget(String target) {
    return plain.builderForTarget(target).intercept(this);
  }

  @Override
  protected NewChannelBuilderResult newChannelBuilder(String target, ChannelCredentials credentials) {
    return plain.newChannelBuilder(target, credentials);
  }

  @Override
  protected Collection<Class<? extends SocketAddress>> getSupportedSocketAddressTypes() {
    return Set.of(InetSocketAddress.class);
  }

  @Override
  public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
    ClientCall<Q, A> call = next.newCall(method, options);
    if (!BeamFnExternalWorkerPoolGrpc.SERVICE_NAME.equals(method.getServiceName())) {
      return call;
    }
    return new SimpleForwardingClientCall<>(call) {
      @Override
      public void start(Listener<A> listener, Metadata headers) {
        headers.put(HEADER, token());
        super.start(listener, headers);
      }
    };
  }

  /** Reads the file at each request, so that the token can be replaced. */
  private static String token() {
    Path file = Path.of(System.getenv(VARIABLE));
    try {
      return Files.readString(file).strip();
    } catch (IOException e) {
      throw Status.UNAUTHENTICATED
          .withDescription(VARIABLE + " names " + file + ", which cannot be read")
          .asRuntimeException();
    }
  }
}
